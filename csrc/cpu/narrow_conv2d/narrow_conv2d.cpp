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
  float* to = packed.mutable_data_ptr<float>();
  for (int64_t tap = 0; tap < taps; ++tap) {
    const int64_t place = adjoint ? taps - 1 - tap : tap;
    const float* const first = from + place / kernel * weight.stride(2) + place % kernel * weight.stride(3);
    for (int64_t c = 0; c < in; ++c) {
      for (int64_t k = 0; k < out; ++k) to[k] = first[k * to_out + c * to_in];
      to += lanes;
    }
  }
  return packed;
}

void convolve(
    const Kernels& kernels, const Plan& plan, const Images& in, const float* weights, const Images& out,
    const Ends& ends, int64_t image, int64_t band, float* memory) {
  kernels.direct.pack(in, image, plan.packed(band, memory));
  const int64_t lanes = lanes_of(plan.out);
  for (const Pixels& pixels : plan.pixels) {
    const int64_t row = plan.first_row(band, pixels);
    const auto at = [&](const Images& x) { return x.data + image * x.image + row * x.row + pixels.column * x.pixel; };
    DirectEnd end;
    end.bias = ends.bias;
    end.slope = ends.slope;
    if (ends.residual.data != nullptr) {
      end.residual = at(ends.residual);
      end.residual_row = pixels.step * ends.residual.row;
      end.residual_pixel = pixels.step * ends.residual.pixel;
    }
    if (ends.shifted_sums != nullptr) {
      end.shifted_sums = ends.shifted_sums + (image * plan.bands() + band) * 3 * lanes;
    }
    kernels.direct.convolve(
        {memory, plan.row(), plan.block(), plan.in, pixels.taps.data(), static_cast<int64_t>(pixels.taps.size()),
         weights, lanes, at(out), plan.rows(band, pixels), plan.columns(pixels), plan.out, pixels.step * out.row,
         pixels.step * out.pixel},
        end);
  }
}

namespace {

// Mean and biased variance [2, channels] from each band's sums, joined in double in the order of the bands.
at::Tensor joined(const Plan& plan, const at::Tensor& shifted_sums) {
  const int64_t lanes = lanes_of(plan.out), bands = plan.bands(), items = shifted_sums.size(0) / (3 * lanes);
  std::vector<double> mean(plan.out, 0.0), squares(plan.out, 0.0);
  double seen = 0;
  for (int64_t i = 0; i < items; ++i) {
    const float* const sums = shifted_sums.const_data_ptr<float>() + i * 3 * lanes;
    const double n = static_cast<double>(plan.rows(i % bands, plan.pixels[0]) * plan.width);
    const double share = n / (seen + n), cross = seen * share;
    for (int64_t k = 0; k < plan.out; ++k) {
      const double sum = sums[lanes + k], difference = sums[k] + sum / n - mean[k];
      mean[k] += difference * share;
      squares[k] += sums[2 * lanes + k] - sum * sum / n + difference * difference * cross;
    }
    seen += n;
  }
  at::Tensor statistics = at::empty({2, plan.out}, shifted_sums.options());
  float* const to = statistics.mutable_data_ptr<float>();
  for (int64_t k = 0; k < plan.out; ++k) {
    to[k] = static_cast<float>(seen > 0 ? mean[k] : std::numeric_limits<double>::quiet_NaN());
    to[plan.out + k] = static_cast<float>(squares[k] / seen);
  }
  return statistics;
}

std::tuple<at::Tensor, at::Tensor> narrow_conv2d(
    const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
    const std::optional<at::Tensor>& residual, int64_t stride, double slope, bool statistics) {
  check_narrow(name, x, weight, bias, residual, stride, slope, statistics);
  const Plan plan = Plan::forward(weight.size(2), stride, x.size(1), weight.size(0), x.size(2), x.size(3));
  const int64_t images = x.size(0), bands = plan.bands(), lanes = lanes_of(plan.out);
  at::Tensor out = empty_images({images, plan.out, plan.height, plan.width}, x);
  const int64_t items = out.numel() == 0 ? 0 : images * bands;

  const at::Tensor dense = with_channels_innermost(x), weights = pack_weight(weight, false);
  const at::Tensor added = residual ? with_channels_innermost(*residual) : at::Tensor();
  at::Tensor biases, sums;
  Ends ends;
  ends.slope = static_cast<float>(slope);
  if (added.defined()) ends.residual = images_of(added);
  if (bias) {
    biases = at::zeros({lanes}, weights.options());
    for (int64_t k = 0; k < plan.out; ++k) {
      biases.mutable_data_ptr<float>()[k] = bias->const_data_ptr<float>()[k * bias->stride(0)];
    }
    ends.bias = biases.const_data_ptr<float>();
  }
  if (statistics) {
    sums = at::zeros({items * 3 * lanes}, weights.options());
    ends.shifted_sums = sums.mutable_data_ptr<float>();
  }
  const Images from = images_of(dense), to = images_of(out);
  const Kernels& kernels = active_kernels();
  at::parallel_for(0, items, 1, [&](int64_t begin, int64_t end) {
    const at::Tensor memory = empty_floats(plan.packed_floats(), weights);
    for (int64_t i = begin; i < end; ++i) {
      convolve(
          kernels, plan, from, weights.const_data_ptr<float>(), to, ends, i / bands, i % bands,
          memory.mutable_data_ptr<float>());
    }
  });
  return {out, statistics ? joined(plan, sums) : at::empty({0}, weights.options())};
}

TORCH_LIBRARY_IMPL(dfad_fast, CPU, m) {
  m.impl("narrow_conv2d", narrow_conv2d);
}

}  // namespace
}  // namespace dfad::cpu::narrow_conv2d
