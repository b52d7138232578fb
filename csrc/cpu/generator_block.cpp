#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <algorithm>
#include <atomic>
#include <cmath>

#include "../checks.h"
#include "matrix_product.h"
#include "tiers.h"

namespace dfad::cpu {
namespace {

using OptionalTensor = std::optional<at::Tensor>;

constexpr const char* name = "generator_block";
constexpr int64_t tap_count = 9;
// What an item's scratch may take, so that it stays in a core's second-level cache beside the weights.
constexpr int64_t scratch_bytes = 768 * 1024;
constexpr int64_t most_pixels = 1024;
constexpr int64_t statistics_rows = 256;
// An output larger than this is written past the caches, through a copy of each item's part.
constexpr int64_t streamed_floats = 4 * 1024 * 1024;
// Partial sums of the gradients; as many for any number of threads, so that results do not depend on it.
constexpr int64_t most_chunks = 32;

// Work is cut into items: some whole images, or some rows of one.
struct Items {
  int64_t batch, height, images, rows, per_image, count;

  Items(int64_t batch, int64_t height, int64_t width, int64_t floats_per_pixel, int64_t halo)
      : batch(batch), height(height), images(1), rows(height), per_image(1) {
    const int64_t bytes = floats_per_pixel * static_cast<int64_t>(sizeof(float));
    const int64_t pixels = std::clamp<int64_t>(scratch_bytes / bytes, 1, most_pixels);
    if (pixels >= height * width) {
      images = std::min(batch, pixels / (height * width));
    } else {
      rows = std::min(height, std::max<int64_t>(1, pixels / width - 2 * halo));
      per_image = (height + rows - 1) / rows;
    }
    count = (batch + images - 1) / images * per_image;
  }
};

struct Item {
  int64_t image, images;  // the first, and how many
  int64_t begin, end;     // rows
  int64_t first, last;    // rows with the halo

  Item(const Items& items, int64_t index, int64_t halo) {
    image = index / items.per_image * items.images;
    images = std::min(items.images, items.batch - image);
    begin = index % items.per_image * items.rows;
    end = std::min(begin + items.rows, items.height);
    first = std::max<int64_t>(begin - halo, 0);
    last = std::min(end + halo, items.height);
  }
};

struct Block {
  at::Tensor x;        // channels_last
  at::Tensor weights;  // [channels in, taps, channels out]
  int64_t batch, height, width, in, out, upsample;
  at::Tensor zeros;

  Block(const at::Tensor& input, const at::Tensor& weight, int64_t upsample)
      : x(input.contiguous(at::MemoryFormat::ChannelsLast)),
        weights(weight.permute({1, 2, 3, 0}).contiguous()),
        batch(x.size(0)),
        height(x.size(2)),
        width(x.size(3)),
        in(x.size(1)),
        out(weight.size(0)),
        upsample(upsample),
        zeros(at::zeros({tap_count * out}, x.options())) {}

  int64_t taps() const { return tap_count * out; }
  int64_t rows() const { return batch * height * width; }
  BlockImage image() const { return {height, width, out, upsample, zeros.const_data_ptr<float>()}; }
};

void check_vector(const OptionalTensor& x, const char* what, int64_t size) {
  TORCH_CHECK_VALUE(
      !x || (x->dim() == 1 && x->size(0) == size && x->scalar_type() == at::kFloat), name, ": ", what,
      " must be a float32 tensor of shape [", size, "]");
}

void check_statistics(const at::Tensor& x, int64_t channels) {
  TORCH_CHECK_VALUE(
      x.sizes() == at::IntArrayRef({2, channels}) && x.scalar_type() == at::kFloat, name,
      ": statistics must be a float32 tensor of shape [2, ", channels, "], got ", x.sizes());
}

void check(
    const at::Tensor& x, const OptionalTensor& norm_weight, const OptionalTensor& norm_bias, const at::Tensor& weight,
    const OptionalTensor& bias, int64_t upsample) {
  TORCH_CHECK_VALUE(
      x.dim() == 4 && x.scalar_type() == at::kFloat, name, ": x must be a float32 tensor of shape [B, C, H, W]");
  TORCH_CHECK_VALUE(
      weight.dim() == 4 && weight.size(1) == x.size(1) && weight.size(2) == 3 && weight.size(3) == 3 &&
          weight.scalar_type() == at::kFloat,
      name, ": weight must be a float32 tensor of shape [channels, ", x.size(1), ", 3, 3], got ", weight.sizes());
  TORCH_CHECK_VALUE(
      x.size(0) * x.size(2) * x.size(3) > 1, name, ": a batch norm needs more than one value per channel, got x ",
      x.sizes());
  TORCH_CHECK_VALUE(
      x.size(1) > 0 && weight.size(0) > 0, name, ": there must be at least one channel, got x ", x.sizes(),
      " and weight ", weight.sizes());
  TORCH_CHECK_VALUE(upsample == 1 || upsample == 2, name, ": upsample must be 1 or 2, got ", upsample);
  check_vector(norm_weight, "norm_weight", x.size(1));
  check_vector(norm_bias, "norm_bias", x.size(1));
  check_vector(bias, "bias", weight.size(0));
}

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

at::Tensor scratch(const at::Tensor& like, int64_t floats) {
  return at::empty({floats}, like.options());
}

// Mean and sum of squared deviations per channel of parts of a batch, joined in double in the order of the parts.
class Statistics {
 public:
  Statistics(int64_t parts, int64_t channels, const at::Tensor& like)
      : channels_(channels), counts_(parts), values_(scratch(like, parts * 2 * channels)) {}

  // Of part `index`: `rows` rows of channels. Parts may be set on several threads.
  void set(const Kernels& kernels, int64_t index, const float* x, int64_t rows) {
    float* part = values_.mutable_data_ptr<float>() + index * 2 * channels_;
    kernels.block.statistics(x, rows, channels_, part, part + channels_);
    counts_[index] = rows;
  }

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

at::Tensor statistics(const Block& block, const Kernels& kernels) {
  const int64_t rows = block.rows(), parts = (rows + statistics_rows - 1) / statistics_rows;
  Statistics found(parts, block.in, block.x);
  const float* x = block.x.const_data_ptr<float>();
  at::parallel_for(0, parts, 8, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      found.set(
          kernels, p, x + p * statistics_rows * block.in, std::min(statistics_rows, rows - p * statistics_rows));
    }
  });
  return found.joined();
}

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

std::tuple<at::Tensor, at::Tensor, at::Tensor> generator_block(
    const at::Tensor& input, const OptionalTensor& given, const OptionalTensor& norm_weight,
    const OptionalTensor& norm_bias, const at::Tensor& weight, const OptionalTensor& bias, int64_t upsample,
    double slope, double eps) {
  check(input, norm_weight, norm_bias, weight, bias, upsample);
  if (given) check_statistics(*given, input.size(1));
  const Block block(input, weight, upsample);
  const Kernels& kernels = active_kernels();
  const at::Tensor found = given ? given->clone() : statistics(block, kernels);
  const Norm norm(found, norm_weight, norm_bias, slope, eps);
  const at::Tensor biases = bias ? bias->contiguous() : block.zeros;
  at::Tensor out = at::empty(
      {block.batch, block.out, block.height * upsample, block.width * upsample}, block.x.options(),
      at::MemoryFormat::ChannelsLast);
  constexpr int64_t halo = 1;
  const Items items(block.batch, block.height, block.width, block.in + block.taps(), halo);
  const float *x = block.x.const_data_ptr<float>(), *w = block.weights.const_data_ptr<float>(),
              *b = biases.const_data_ptr<float>();
  float* y = out.mutable_data_ptr<float>();
  const int64_t image_pixels = block.height * block.width, scale = upsample * upsample;
  Statistics of_output(items.count, block.out, block.x);
  const int64_t most = items.images * std::min(items.rows + 2 * halo, block.height) * block.width;
  const bool streamed = out.numel() > streamed_floats;
  const int64_t most_made = streamed ? items.images * items.rows * block.width * scale * block.out : 0;
  const auto prepare = [&] { return scratch(block.x, most * (block.in + block.taps()) + most_made); };
  share_out(items.count, prepare, [&](int64_t index, const at::Tensor& memory) {
    float *normalised = memory.mutable_data_ptr<float>(), *taps = normalised + most * block.in;
    const Item item(items, index, halo);
    const int64_t pixels = item.images * (item.last - item.first) * block.width;
    const float* from = x + (item.image * image_pixels + item.first * block.width) * block.in;
    kernels.block.normalise(norm.get(), from, pixels, normalised);
    multiply(pixels, block.taps(), block.in, normalised, w, taps);
    const int64_t image_made = (item.end - item.begin) * block.width * scale * block.out;
    float* target = y + (item.image * image_pixels + item.begin * block.width) * scale * block.out;
    float* made = streamed ? taps + most * block.taps() : target;
    for (int64_t i = 0; i < item.images; ++i) {
      kernels.block.gather(
          block.image(), taps + i * image_pixels * block.taps(), item.first, b, item.begin, item.end,
          made + i * image_made);
    }
    // While the item's output is in the cache; whoever normalises it next is spared a pass.
    of_output.set(kernels, index, made, item.images * image_made / block.out);
    if (streamed) kernels.block.stream(made, item.images * image_made, target);
  });
  return {out, found, of_output.joined()};
}

void add_to(std::vector<double>& sums, std::vector<float>& part) {
  for (size_t c = 0; c < sums.size(); ++c) {
    sums[c] += part[c];
    part[c] = 0;
  }
}

at::Tensor to_tensor(const std::vector<double>& values, const at::Tensor& like) {
  at::Tensor out = at::empty({static_cast<int64_t>(values.size())}, like.options());
  std::copy(values.begin(), values.end(), out.mutable_data_ptr<float>());
  return out;
}

// What a chunk of the items adds up.
struct Sums {
  std::vector<double> grads, products, outputs;

  explicit Sums(const Block& block) : grads(block.in), products(block.in), outputs(block.out) {}

  void add(const Sums& other) {
    const auto join = [](std::vector<double>& to, const std::vector<double>& from) {
      for (size_t c = 0; c < to.size(); ++c) to[c] += from[c];
    };
    join(grads, other.grads);
    join(products, other.products);
    join(outputs, other.outputs);
  }
};

std::vector<at::Tensor> generator_block_backward(
    const at::Tensor& grad, const at::Tensor& input, const at::Tensor& statistics, const OptionalTensor& norm_weight,
    const OptionalTensor& norm_bias, const at::Tensor& weight, int64_t upsample, double slope, double eps,
    std::array<bool, 5> wanted) {
  check(input, norm_weight, norm_bias, weight, std::nullopt, upsample);
  const Block block(input, weight, upsample);
  TORCH_CHECK_VALUE(
      grad.scalar_type() == at::kFloat &&
          grad.sizes() ==
              at::IntArrayRef({block.batch, block.out, block.height * upsample, block.width * upsample}),
      name, ": grad must be a float32 tensor of the output's shape, got ", grad.sizes());
  check_statistics(statistics, block.in);
  const auto [x_wanted, norm_weight_wanted, norm_bias_wanted, weight_wanted, bias_wanted] = wanted;
  const bool below = x_wanted || norm_weight_wanted || norm_bias_wanted;
  const Kernels& kernels = active_kernels();
  const Norm norm(statistics, norm_weight, norm_bias, slope, eps);
  const at::Tensor grads = grad.contiguous(at::MemoryFormat::ChannelsLast);
  const at::Tensor x_grad = below ? at::empty_like(block.x) : at::Tensor();
  const Items items(block.batch, block.height, block.width, block.in + block.taps(), 0);
  const int64_t chunks = std::min(items.count, most_chunks);
  const int64_t weights = block.in * block.taps();
  const at::Tensor weight_grads = weight_wanted ? at::zeros({chunks, weights}, block.x.options()) : at::Tensor();
  std::vector<Sums> sums(chunks, Sums(block));
  const float *x = block.x.const_data_ptr<float>(), *w = block.weights.const_data_ptr<float>(),
              *dy = grads.const_data_ptr<float>();
  float* dx = below ? x_grad.mutable_data_ptr<float>() : nullptr;
  float* dw = weight_wanted ? weight_grads.mutable_data_ptr<float>() : nullptr;
  const int64_t image_pixels = block.height * block.width, scale = upsample * upsample;

  const int64_t most = items.images * items.rows * block.width;
  const auto prepare = [&] { return scratch(block.x, most * (block.in + block.taps())); };
  share_out(chunks, prepare, [&](int64_t chunk, const at::Tensor& memory) {
    float *normalised = memory.mutable_data_ptr<float>(), *taps = normalised + most * block.in;
    std::vector<float> grad_sums(block.in), products(block.in), output_sums(block.out);
    for (int64_t index = chunk * items.count / chunks; index < (chunk + 1) * items.count / chunks; ++index) {
      const Item item(items, index, 0);
      const int64_t image_rows = (item.end - item.begin) * block.width, pixels = item.images * image_rows;
      const int64_t start = item.image * image_pixels + item.begin * block.width;
      const float* from = x + start * block.in;
      for (int64_t i = 0; i < item.images; ++i) {
        kernels.block.spread(
            block.image(), dy + (item.image + i) * image_pixels * scale * block.out, item.begin, item.end,
            taps + i * image_rows * block.taps());
      }
      if (below) {
        multiply_transposed(pixels, block.in, block.taps(), taps, w, dx + start * block.in);
        kernels.block.activation_gradient(
            norm.get(), from, pixels, dx + start * block.in, grad_sums.data(), products.data());
        add_to(sums[chunk].grads, grad_sums);
        add_to(sums[chunk].products, products);
      }
      if (weight_wanted) {
        kernels.block.normalise(norm.get(), from, pixels, normalised);
        add_product(block.in, block.taps(), pixels, normalised, taps, dw + chunk * weights);
      }
      if (bias_wanted) {
        kernels.block.add_rows(dy + start * scale * block.out, pixels * scale, block.out, output_sums.data());
        add_to(sums[chunk].outputs, output_sums);
      }
    }
  });
  Sums total(block);
  for (const Sums& part : sums) total.add(part);

  std::vector<at::Tensor> results;
  if (x_wanted) {
    std::vector<float> mean_grad(block.in), mean_product(block.in);
    for (int64_t c = 0; c < block.in; ++c) {
      mean_grad[c] = static_cast<float>(total.grads[c] / static_cast<double>(block.rows()));
      mean_product[c] = static_cast<float>(total.products[c] / static_cast<double>(block.rows()));
    }
    at::parallel_for(0, block.rows(), statistics_rows, [&](int64_t begin, int64_t end) {
      kernels.block.norm_gradient(
          norm.get(), x + begin * block.in, end - begin, mean_grad.data(), mean_product.data(),
          dx + begin * block.in);
    });
    results.push_back(x_grad);
  }
  if (norm_weight_wanted) results.push_back(to_tensor(total.products, block.x));
  if (norm_bias_wanted) results.push_back(to_tensor(total.grads, block.x));
  if (weight_wanted) {
    // Into the first chunk, in order: the order in which at::sum adds depends on the threads.
    at::parallel_for(0, block.in, 1, [&](int64_t begin, int64_t end) {
      for (int64_t chunk = 1; chunk < chunks; ++chunk) {
        kernels.block.add_rows(
            dw + chunk * weights + begin * block.taps(), 1, (end - begin) * block.taps(), dw + begin * block.taps());
      }
    });
    const at::Tensor summed = weight_grads[0].view({block.in, 3, 3, block.out});
    results.push_back(at::empty_like(weight).copy_(summed.permute({3, 0, 1, 2})));
  }
  if (bias_wanted) results.push_back(to_tensor(total.outputs, block.x));
  return results;
}

TORCH_LIBRARY_IMPL(dfad_fast, CPU, m) {
  m.impl("generator_block", generator_block);
  m.impl("generator_block_backward", generator_block_backward);
}

}  // namespace
}  // namespace dfad::cpu
