#include "narrow_conv2d.h"

#include <ATen/Parallel.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include "../../checks.h"

namespace dfad::cpu::narrow_conv2d {

at::Tensor pack_weight(const at::Tensor& weight, bool adjoint) {
  const int64_t out = weight.size(adjoint ? 1 : 0), in = weight.size(adjoint ? 0 : 1), kernel = weight.size(2);
  const int64_t lanes = lanes_of(out), taps = kernel * kernel;
  const int64_t to_out = weight.stride(adjoint ? 1 : 0), to_in = weight.stride(adjoint ? 0 : 1);
  at::Tensor packed = at::zeros({taps * in * lanes}, weight.options().memory_format(at::MemoryFormat::Contiguous));
  const float* const from = weight.const_data_ptr<float>();
  float* const to = packed.mutable_data_ptr<float>();
  // In this order both sides stay in the first cache.
  for (int64_t c = 0; c < in; ++c) {
    for (int64_t k = 0; k < out; ++k) {
      const float* const filter = from + k * to_out + c * to_in;
      for (int64_t tap = 0; tap < taps; ++tap) {
        const int64_t place = adjoint ? taps - 1 - tap : tap;
        to[(tap * in + c) * lanes + k] = filter[place / kernel * weight.stride(2) + place % kernel * weight.stride(3)];
      }
    }
  }
  return packed;
}

std::unique_ptr<Convolution> make_convolution(
    const Kernels& kernels, const at::Tensor& x, const at::Tensor& weight, int64_t stride, int64_t tile, bool adjoint,
    const at::Tensor& out, const Ends& ends) {
  const at::Tensor packed = pack_weight(weight, adjoint);
  return tile != 0 ? tiled_convolution(kernels, x, packed, out, ends)
                   : direct_convolution(kernels, x, packed, weight.size(2), stride, adjoint, out, ends);
}

std::unique_ptr<WeightGradient> make_weight_gradient(
    const Kernels& kernels, const at::Tensor& x, const at::Tensor& grad, const at::Tensor& weight, int64_t stride,
    int64_t tile) {
  return tile != 0 ? tiled_weight_gradient(kernels, x, grad)
                   : direct_weight_gradient(kernels, x, grad, weight.size(2), stride);
}

namespace {

// Mean and biased variance [2, channels] from each item's sums over so many pixels, joined in double in their order.
at::Tensor joined(const std::vector<int64_t>& pixels, const at::Tensor& shifted_sums, int64_t channels) {
  const int64_t lanes = lanes_of(channels);
  std::vector<Moments> parts;
  const float* sums = shifted_sums.const_data_ptr<float>();
  for (const int64_t count : pixels) {
    for (int64_t k = 0; k < channels; ++k) {
      parts.push_back(shifted_moments(static_cast<double>(count), sums[k], sums[lanes + k], sums[2 * lanes + k]));
    }
    sums += 3 * lanes;
  }
  at::Tensor statistics = at::empty({2, channels}, shifted_sums.options());
  float* const to = statistics.mutable_data_ptr<float>();
  for (int64_t k = 0; k < channels; ++k) {
    double seen = 0, mean = 0, squares = 0;
    for (size_t i = k; i < parts.size(); i += channels) {
      seen += parts[i].count;
      mean += parts[i].count * parts[i].mean;
    }
    mean /= seen;
    for (size_t i = k; i < parts.size(); i += channels) squares += parts[i].around(mean);
    to[k] = static_cast<float>(mean);
    to[channels + k] = static_cast<float>(squares / seen);
  }
  return statistics;
}

std::tuple<at::Tensor, at::Tensor> narrow_conv2d(
    const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
    const std::optional<at::Tensor>& residual, int64_t stride, double slope, bool statistics, int64_t tile) {
  check_narrow(name, x, weight, bias, residual, {stride, slope, statistics, tile});
  const int64_t channels = weight.size(0), lanes = lanes_of(channels);
  at::Tensor out =
      empty_images({x.size(0), channels, (x.size(2) + stride - 1) / stride, (x.size(3) + stride - 1) / stride}, x);
  const at::TensorOptions options = x.options().memory_format(at::MemoryFormat::Contiguous);
  const at::Tensor added = residual ? with_channels_innermost(*residual) : at::Tensor();
  at::Tensor biases, sums;
  Ends ends;
  ends.slope = static_cast<float>(slope);
  if (added.defined()) ends.residual = images_of(added);
  if (bias) {
    biases = at::zeros({lanes}, options);
    for (int64_t k = 0; k < channels; ++k) {
      biases.mutable_data_ptr<float>()[k] = bias->const_data_ptr<float>()[k * bias->stride(0)];
    }
    ends.bias = biases.const_data_ptr<float>();
  }
  const Kernels& kernels = active_kernels();
  const auto convolution =
      make_convolution(kernels, with_channels_innermost(x), weight, stride, tile, false, out, ends);
  const int64_t items = out.numel() == 0 ? 0 : convolution->items();
  if (statistics) sums = at::zeros({items * 3 * lanes}, options);
  std::vector<int64_t> pixels(items);
  at::parallel_for(0, items, 1, [&](int64_t begin, int64_t end) {
    const at::Tensor memory = empty_floats(convolution->memory(), out);
    for (int64_t i = begin; i < end; ++i) {
      float* const to = statistics ? sums.mutable_data_ptr<float>() + i * 3 * lanes : nullptr;
      pixels[i] = convolution->run(i, memory.mutable_data_ptr<float>(), to);
    }
  });
  return {out, statistics ? joined(pixels, sums, channels) : at::empty({0}, options)};
}

TORCH_LIBRARY_IMPL(dfad_fast, CPU, m) {
  m.impl("narrow_conv2d", narrow_conv2d);
}

}  // namespace
}  // namespace dfad::cpu::narrow_conv2d
