#include <ATen/Parallel.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <algorithm>
#include <array>

#include "../../checks.h"
#include "narrow_conv2d.h"

namespace dfad::cpu::narrow_conv2d {
namespace {

// The weights' gradient is summed in parts of the batch, as many for any number of threads, and these in double: fewer
// where weights are so many that clearing and adding their sums would show.
constexpr int64_t most_parts = 32, fewest_parts = 4, part_floats = 256 << 10;

int64_t parts_of(const WeightGradient& of) {
  return std::min(of.items(), std::clamp(part_floats / of.size(), fewest_parts, most_parts));
}

// Elements of a cut gradient that one call makes.
constexpr int64_t cut_elements = 16384;

// Before the activation, whose slope is below 0.
at::Tensor cut(const Kernels& kernels, const at::Tensor& grad, const at::Tensor& out, double slope) {
  const at::Tensor grads = grad.contiguous(at::MemoryFormat::ChannelsLast);
  const at::Tensor results = out.contiguous(at::MemoryFormat::ChannelsLast);
  at::Tensor before = empty_images(grad.sizes(), grad);
  const float *from = grads.const_data_ptr<float>(), *signs = results.const_data_ptr<float>();
  float* const to = before.mutable_data_ptr<float>();
  at::parallel_for(0, before.numel(), cut_elements, [&](int64_t begin, int64_t end) {
    kernels.direct.cut(from + begin, signs + begin, static_cast<float>(slope), end - begin, to + begin);
  });
  return before;
}

// The gradient in the weight's own order from the sums of all parts, which are added in double, in order.
at::Tensor finished(const WeightGradient& of, const at::Tensor& parts, const at::Tensor& weight) {
  const int64_t out = weight.size(0), in = weight.size(1), kernel = weight.size(2), lanes = lanes_of(out);
  std::vector<double> total(kernel * kernel * in * lanes, 0.0);
  for (int64_t p = 0; p < parts.size(0); ++p) {
    const at::Tensor packed = of.packed(parts[p]);
    const float* const sums = packed.const_data_ptr<float>();
    for (size_t i = 0; i < total.size(); ++i) total[i] += sums[i];
  }
  at::Tensor grad = at::empty_like(weight);
  float* const to = grad.mutable_data_ptr<float>();
  // In this order both sides stay in the first cache.
  for (int64_t c = 0; c < in; ++c) {
    for (int64_t k = 0; k < out; ++k) {
      float* const filter = to + k * grad.stride(0) + c * grad.stride(1);
      for (int64_t tap = 0; tap < kernel * kernel; ++tap) {
        filter[tap / kernel * grad.stride(2) + tap % kernel * grad.stride(3)] =
            static_cast<float>(total[(tap * in + c) * lanes + k]);
      }
    }
  }
  return grad;
}

at::Tensor bias_gradient(const Kernels& kernels, const at::Tensor& grad) {
  const int64_t channels = grad.size(1), pixels = grad.numel() / channels;
  const int64_t parts = std::min(most_parts, pixels);
  const Images images = images_of(grad);
  std::vector<double> sums(std::max<int64_t>(parts, 1) * channels, 0.0);
  at::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      kernels.winograd.channel_sums(images, {}, {pixels * p / parts, pixels * (p + 1) / parts}, &sums[p * channels]);
    }
  });
  at::Tensor total = empty_floats(channels, grad);
  for (int64_t c = 0; c < channels; ++c) {
    for (int64_t p = 1; p < parts; ++p) sums[c] += sums[p * channels + c];
    total.mutable_data_ptr<float>()[c] = static_cast<float>(sums[c]);
  }
  return total;
}

std::vector<at::Tensor> narrow_conv2d_backward(
    const at::Tensor& grad, const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& out,
    int64_t stride, double slope, int64_t tile, std::array<bool, 4> wanted) {
  check_narrow_grad(name, grad, x, weight, out, {stride, slope, false, tile});
  const auto [x_wanted, weight_wanted, bias_wanted, residual_wanted] = wanted;
  const Kernels& kernels = active_kernels();
  const at::Tensor before = slope == 1 ? with_channels_innermost(grad) : cut(kernels, grad, *out, slope);

  at::Tensor x_grad, sums;
  std::unique_ptr<Convolution> adjoint;
  std::unique_ptr<WeightGradient> weight_grad;
  int64_t parts = 0;
  if (x_wanted) {
    x_grad = empty_images(x.sizes(), x);
    adjoint = make_convolution(kernels, before, weight, stride, tile, true, x_grad, {});
    parts = before.numel() > 0 ? adjoint->items() : 0;
  }
  if (weight_wanted) {
    weight_grad = make_weight_gradient(kernels, with_channels_innermost(x), before, weight, stride, tile);
    parts = before.numel() > 0 ? parts_of(*weight_grad) : 0;
    sums = at::zeros({parts, weight_grad->size()}, weight.options().memory_format(at::MemoryFormat::Contiguous));
  }
  // Both gradients of a part of the batch in turn, while its rows of grad are in the cache.
  at::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
    const int64_t floats = std::max(x_wanted ? adjoint->memory() : 0, weight_wanted ? weight_grad->memory() : 0);
    const at::Tensor memory = empty_floats(floats, before);
    float* const scratch = memory.mutable_data_ptr<float>();
    const auto for_each = [&](int64_t part, const Items& of, const auto& body) {
      for (int64_t i = of.items() * part / parts; i < of.items() * (part + 1) / parts; ++i) body(i);
    };
    for (int64_t p = begin; p < end; ++p) {
      if (weight_wanted) {
        float* const to = sums.mutable_data_ptr<float>() + p * weight_grad->size();
        for_each(p, *weight_grad, [&](int64_t i) { weight_grad->add(i, scratch, to); });
      }
      if (x_wanted) for_each(p, *adjoint, [&](int64_t i) { adjoint->run(i, scratch); });
    }
  });

  std::vector<at::Tensor> grads;
  if (x_wanted) grads.push_back(x_grad);
  if (weight_wanted) grads.push_back(finished(*weight_grad, sums, weight));
  if (bias_wanted) grads.push_back(bias_gradient(kernels, before));
  if (residual_wanted) grads.push_back(slope == 1 ? before.clone(at::MemoryFormat::ChannelsLast) : before);
  return grads;
}

TORCH_LIBRARY_IMPL(dfad_fast, CPU, m) {
  m.impl("narrow_conv2d_backward", narrow_conv2d_backward);
}

}  // namespace
}  // namespace dfad::cpu::narrow_conv2d
