#include <ATen/ops/empty.h>
#include <ATen/ops/empty_strided.h>
#include <torch/library.h>

#include <cmath>

#include "../../checks.h"
#include "../../dtypes.h"
#include "../../layout.h"
#include "../../ops.h"
#include "../operand.h"
#include "../scalar.h"
#include "channels.h"

namespace dfad::cpu {
namespace {

constexpr const char* name = "batch_norm_act";
using OptionalTensor = std::optional<at::Tensor>;

template <class A>
constexpr int64_t lanes = 128 / sizeof(A);

const char* at_element(const at::Tensor& x, int64_t element) {
  return static_cast<const char*>(x.const_data_ptr()) + element * static_cast<int64_t>(x.element_size());
}
char* out_element(const at::Tensor& x, int64_t element) { return const_cast<char*>(at_element(x, element)); }

double value_of(const OptionalTensor& values, int64_t channel, double otherwise) {
  return values ? read_scalar(*values, channel * values->stride(0)) : otherwise;
}

// A sum and another per channel and chunk, in double.
class Parts {
 public:
  explicit Parts(const Channels& of) : channels_(of.count()), values_(2 * of.chunks() * of.count()) {}

  double* first(int64_t chunk, int64_t channel) { return values_.data() + 2 * chunk * channels_ + channel; }
  double* second(int64_t chunk, int64_t channel) { return first(chunk, channel) + channels_; }

 private:
  int64_t channels_;
  std::vector<double> values_;
};

// A pass begins where the one before it ended: that is still in the cache.
int64_t backwards(const Channels& of, int64_t item) { return of.blocks() - 1 - item; }

// The tables of a batch norm. Numbers per channel come in double.
template <class A>
struct Norm {
  std::vector<double> rstd, scales;
  std::vector<A> mean, scale, bias;

  Norm(
      const Channels& of, const at::Tensor& statistics, const OptionalTensor& weight, const OptionalTensor& shift,
      double eps)
      : rstd(of.count()), scales(of.count()) {
    const at::Tensor both = statistics.contiguous();
    const A* const means = both.template const_data_ptr<A>();
    for (int64_t c = 0; c < of.count(); ++c) {
      rstd[c] = 1.0 / std::sqrt(static_cast<double>(means[of.count() + c]) + eps);
      scales[c] = value_of(weight, c, 1.0) * rstd[c];
    }
    mean = of.table<A>([&](int64_t c) { return means[c]; });
    scale = of.table<A>([&](int64_t c) { return scales[c]; });
    bias = of.table<A>([&](int64_t c) { return value_of(shift, c, 0.0); });
  }

  NormTables<A> from(int64_t offset) const {
    return {mean.data() + offset, scale.data() + offset, bias.data() + offset};
  }
};

template <class A>
std::tuple<at::Tensor, at::Tensor> forward(
    const at::Tensor& input, const OptionalTensor& residual, const OptionalTensor& weight, const OptionalTensor& bias,
    const OptionalTensor& given, double slope, double eps) {
  const Dims strides = dense_strides(input);
  const at::Tensor x = laid_out(input, strides), beside = residual ? laid_out(*residual, strides) : at::Tensor();
  at::Tensor out = at::empty_strided(x.sizes(), strides, x.options());
  const Channels of(ChannelLayout(x.sizes(), strides), lanes<A>);
  const Kernels& kernels = active_kernels();
  at::Tensor statistics = given ? given->clone(at::MemoryFormat::Contiguous) : ops::channel_statistics({x});
  const Norm<A> norm(of, statistics, weight, bias, eps);
  const BatchNormAct<A> f = {static_cast<A>(slope)};
  for_each_block(of.blocks(), of.elements(), [&](int64_t item) {
    const int64_t block = backwards(of, item), begin = of.begin(block);
    kernels.of<A>().norm.apply(
        f, of.stretch(block, dtype_of(x)), at_element(x, begin), residual ? at_element(beside, begin) : nullptr,
        norm.from(of.table_offset(block)), out_element(out, begin));
  });
  return {out, statistics};
}

template <class A>
std::vector<at::Tensor> backward(
    const at::Tensor& gradient, const at::Tensor& input, const OptionalTensor& output, const OptionalTensor& weight,
    const OptionalTensor& bias, const at::Tensor& statistics, bool constant, double slope, double eps,
    std::array<bool, 4> wanted) {
  const auto [x_wanted, residual_wanted, weight_wanted, bias_wanted] = wanted;
  const Dims strides = dense_strides(input);
  const at::Tensor x = laid_out(input, strides), grad = laid_out(gradient, strides),
                   out = output ? laid_out(*output, strides) : at::Tensor();
  const Channels of(ChannelLayout(x.sizes(), strides), lanes<A>);
  const NormKernels<A>& kernels = active_kernels().of<A>().norm;
  const Norm<A> norm(of, statistics, weight, bias, eps);
  const BatchNormAct<A> f = {static_cast<A>(slope)};
  const at::Tensor residual_grad =
      residual_wanted ? at::empty_strided(x.sizes(), strides, x.options()) : at::Tensor();

  const bool sums_wanted = weight_wanted || bias_wanted || (x_wanted && !constant);
  Parts sums(of);
  if (sums_wanted || residual_wanted) {
    for_each_block(of.blocks(), of.elements(), [&](int64_t block) {
      const int64_t begin = of.begin(block);
      std::vector<A> by_lane(2 * of.period());
      A *const first = sums_wanted ? by_lane.data() : nullptr,
               *const second = sums_wanted ? first + of.period() : nullptr;
      const NormBackward pass = {
          at_element(grad, begin), at_element(x, begin), output ? at_element(out, begin) : nullptr,
          residual_wanted ? out_element(residual_grad, begin) : nullptr};
      kernels.sums(f, of.stretch(block, dtype_of(x)), pass, norm.from(of.table_offset(block)), first, second);
      if (!sums_wanted) return;
      const int64_t chunk = of.chunk_of(block), channel = of.first_channel(block);
      of.add_lanes(first, sums.first(chunk, channel));
      of.add_lanes(second, sums.second(chunk, channel));
    });
  }
  std::vector<double> grads(of.count()), products(of.count());
  for (int64_t k = 0; k < of.chunks(); ++k) {
    for (int64_t c = 0; c < of.count(); ++c) {
      grads[c] += *sums.first(k, c);
      products[c] += *sums.second(k, c);
    }
  }

  std::vector<at::Tensor> results;
  if (x_wanted) {
    std::vector<A> by_x, level;
    if (!constant) {
      const double share = 1.0 / static_cast<double>(of.values());
      by_x = of.table<A>(
          [&](int64_t c) { return -norm.scales[c] * norm.rstd[c] * norm.rstd[c] * products[c] * share; });
      level = of.table<A>([&](int64_t c) { return -norm.scales[c] * grads[c] * share; });
    }
    const at::Tensor x_grad = at::empty_strided(x.sizes(), strides, x.options());
    // The gradient before the activation lies there already.
    const BatchNormAct<A> none = {1};
    for_each_block(of.blocks(), of.elements(), [&](int64_t item) {
      const int64_t block = backwards(of, item), offset = of.table_offset(block), begin = of.begin(block);
      const NormBackward pass = {
          at_element(residual_wanted ? residual_grad : grad, begin), at_element(x, begin),
          output && !residual_wanted ? at_element(out, begin) : nullptr, nullptr};
      kernels.gradient(
          residual_wanted ? none : f, of.stretch(block, dtype_of(x)), pass, norm.from(offset),
          constant ? nullptr : by_x.data() + offset, constant ? nullptr : level.data() + offset,
          out_element(x_grad, begin));
    });
    results.push_back(x_grad);
  }
  if (residual_wanted) results.push_back(residual_grad);
  const auto per_channel = [&](const OptionalTensor& like, const auto& value) {
    at::Tensor values = at::empty({of.count()}, x.options().dtype(at::kDouble));
    for (int64_t c = 0; c < of.count(); ++c) values.mutable_data_ptr<double>()[c] = value(c);
    return values.to(like ? like->scalar_type() : statistics_dtype({x}));
  };
  if (weight_wanted) results.push_back(per_channel(weight, [&](int64_t c) { return norm.rstd[c] * products[c]; }));
  if (bias_wanted) results.push_back(per_channel(bias, [&](int64_t c) { return grads[c]; }));
  return results;
}

std::tuple<at::Tensor, at::Tensor> batch_norm_act(
    const at::Tensor& x, const OptionalTensor& residual, const OptionalTensor& weight, const OptionalTensor& bias,
    const OptionalTensor& given, bool constant, double slope, double eps) {
  check_batch_norm(name, x, residual, weight, bias, given, constant, slope, eps);
  const auto run = x.scalar_type() == at::kDouble ? forward<double> : forward<float>;
  return run(x, residual, weight, bias, given, slope, eps);
}

std::vector<at::Tensor> batch_norm_act_backward(
    const at::Tensor& grad, const at::Tensor& x, const OptionalTensor& out, const OptionalTensor& weight,
    const OptionalTensor& bias, const at::Tensor& statistics, bool constant, double slope, double eps,
    std::array<bool, 4> wanted) {
  check_batch_norm(name, x, std::nullopt, weight, bias, statistics, constant, slope, eps);
  check_batch_norm_backward(name, grad, x, out);
  const auto run = x.scalar_type() == at::kDouble ? backward<double> : backward<float>;
  return run(grad, x, out, weight, bias, statistics, constant, slope, eps, wanted);
}

TORCH_LIBRARY_IMPL(dfad_fast, CPU, m) {
  m.impl("batch_norm_act", batch_norm_act);
  m.impl("batch_norm_act_backward", batch_norm_act_backward);
}

}  // namespace
}  // namespace dfad::cpu
