#pragma once

// What both ways through a generator's block share: with and without upsampling.

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <optional>
#include <vector>

#include "../tiers.h"

namespace dfad::cpu {

using OptionalTensor = std::optional<at::Tensor>;

// An output larger than this is written past the caches.
constexpr int64_t streamed_floats = 4 * 1024 * 1024;
// Partial sums of the gradients; as many for any number of threads, so that results do not depend on it.
constexpr int64_t most_chunks = 32;

inline at::Tensor scratch(const at::Tensor& like, int64_t floats) { return at::empty({floats}, like.options()); }

// Threads take the next item when they are done with one, so that none waits long for a slower one. `prepare` gives
// each what it works with.
template <class Prepare, class Body>
void share_out(int64_t count, const Prepare& prepare, const Body& body) {
  std::atomic<int64_t> next = 0;
  at::parallel_for(0, std::min<int64_t>(count, at::get_num_threads()), 1, [&](int64_t begin, int64_t end) {
    auto tools = prepare();
    for (int64_t worker = begin; worker < end; ++worker) {
      for (int64_t item = next++; item < count; item = next++) body(item, tools);
    }
  });
}

// Mean and sum of squared deviations per channel of parts of a batch, joined in double in the order of the parts.
class Statistics {
 public:
  Statistics(int64_t parts, int64_t channels, const at::Tensor& like)
      : channels_(channels), counts_(parts), values_(scratch(like, parts * 2 * channels)) {}

  // The means of part `index`, which has `count` values per channel. Parts may be set on several threads.
  float* means(int64_t index, int64_t count) {
    counts_[index] = count;
    return values_.mutable_data_ptr<float>() + index * 2 * channels_;
  }
  float* squares(int64_t index) { return values_.mutable_data_ptr<float>() + (index * 2 + 1) * channels_; }

  // [2, channels]: mean and biased variance.
  at::Tensor joined() const {
    std::vector<double> mean(channels_, 0.0), squares(channels_, 0.0);
    double seen = 0;
    for (size_t p = 0; p < counts_.size(); ++p) {
      const float* part = values_.const_data_ptr<float>() + p * 2 * channels_;
      const double n = static_cast<double>(counts_[p]), share = n / (seen + n), cross = seen * share;
      for (int64_t c = 0; c < channels_; ++c) {
        const double difference = part[c] - mean[c];
        mean[c] += difference * share;
        squares[c] += part[channels_ + c] + difference * difference * cross;
      }
      seen += n;
    }
    at::Tensor out = at::empty({2, channels_}, values_.options());
    float* to = out.mutable_data_ptr<float>();
    for (int64_t c = 0; c < channels_; ++c) {
      to[c] = static_cast<float>(mean[c]);
      to[channels_ + c] = static_cast<float>(squares[c] / seen);
    }
    return out;
  }

 private:
  int64_t channels_;
  std::vector<int64_t> counts_;
  at::Tensor values_;
};

// The batch norm as one affine map per channel.
class Norm {
 public:
  Norm(
      const at::Tensor& statistics, const OptionalTensor& weight, const OptionalTensor& bias, double slope,
      double eps)
      : channels_(statistics.size(1)), slope_(static_cast<float>(slope)), values_(4 * channels_) {
    const at::Tensor both = statistics.contiguous();
    const float *mean = both.const_data_ptr<float>(), *variance = mean + channels_;
    for (int64_t c = 0; c < channels_; ++c) {
      const double m = mean[c], rstd = 1.0 / std::sqrt(variance[c] + eps);
      const double scale = rstd * (weight ? at_(*weight, c) : 1.0);
      values_[c] = static_cast<float>(m);
      values_[channels_ + c] = static_cast<float>(rstd);
      values_[2 * channels_ + c] = static_cast<float>(scale);
      values_[3 * channels_ + c] = static_cast<float>((bias ? at_(*bias, c) : 0.0) - m * scale);
    }
  }

  BlockNorm get() const {
    const float* v = values_.data();
    return {channels_, v, v + channels_, v + 2 * channels_, v + 3 * channels_, slope_};
  }

 private:
  static double at_(const at::Tensor& x, int64_t c) { return x.const_data_ptr<float>()[c * x.stride(0)]; }

  int64_t channels_;
  float slope_;
  std::vector<float> values_;
};

// Sums per channel of a chunk of the batch: of the gradient of the affine map, of its products with the normalized x,
// and of the output's gradient. They are added up in double in pieces that were added up in float.
struct Sums {
  std::vector<double> grads, products, outputs;

  Sums(int64_t in, int64_t out) : grads(in), products(in), outputs(out) {}

  void add(const Sums& other) {
    const auto join = [](std::vector<double>& to, const std::vector<double>& from) {
      for (size_t c = 0; c < to.size(); ++c) to[c] += from[c];
    };
    join(grads, other.grads);
    join(products, other.products);
    join(outputs, other.outputs);
  }
};

// Empties `part`.
inline void add_to(std::vector<double>& sums, std::vector<float>& part) {
  for (size_t c = 0; c < sums.size(); ++c) {
    sums[c] += part[c];
    part[c] = 0;
  }
}

// A forward pass: everything in channels_last.
struct BlockForward {
  const Kernels& kernels;
  const Norm& norm;
  const at::Tensor &x, &weight;
  const float* bias;  // one per output channel
  at::Tensor& out;
};

// A backward pass. Where `below`, x_grad takes the gradient of the affine map; weight_grad, where it is defined, takes
// sums [chunks, channels in, 9, channels out].
struct BlockBackward {
  const Kernels& kernels;
  const Norm& norm;
  const at::Tensor &grad, &x, &weight;
  at::Tensor x_grad, weight_grads;
  bool weight_wanted, bias_wanted;
  std::vector<Sums> sums;

  bool below() const { return x_grad.defined(); }
};

// Statistics of the output.
at::Tensor plain_forward(const BlockForward&);
at::Tensor upsampled_forward(const BlockForward&);

void plain_backward(BlockBackward&);
void upsampled_backward(BlockBackward&);

// Into how many items of work an upsampled block is cut: a chunk without one would only fill and add zeros.
int64_t upsampled_items(const at::Tensor& x);

// Without upsampling to few channels, whose backward leaves x_grad to narrow_input_gradient: the gradient of x, from the
// means over the batch of sums.grads and sums.products.
bool is_narrow(const at::Tensor& weight);
void narrow_backward(BlockBackward&);
void narrow_input_gradient(const BlockBackward&, const float* mean_grad, const float* mean_product);

}  // namespace dfad::cpu
