#include <ATen/Parallel.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include "../../checks.h"
#include "narrow_conv2d.h"

namespace dfad::cpu::narrow_conv2d {
namespace {

// The weights' gradient is summed in parts of the batch, as many for any number of threads, and these in double: fewer
// where weights are so many that clearing and adding their sums would show.
constexpr int64_t most_parts = 32, fewest_parts = 4, part_floats = 256 << 10;

int64_t parts_of(int64_t images, const at::Tensor& weight) {
  return std::min(images, std::clamp(part_floats / weight.numel(), fewest_parts, most_parts));
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

// The gradient as the weights' gradient reads it: its channels filled up to whole lanes.
at::Tensor with_whole_lanes(const at::Tensor& grad) {
  const int64_t lanes = lanes_of(grad.size(1));
  if (lanes == grad.size(1)) return grad;
  at::Tensor filled = at::empty(
      {grad.size(0), lanes, grad.size(2), grad.size(3)}, grad.options().memory_format(at::MemoryFormat::ChannelsLast));
  filled.zero_().narrow(1, 0, grad.size(1)).copy_(grad);
  return filled;
}

class WeightGradient {
 public:
  WeightGradient(const Kernels& kernels, const Plan& plan, const at::Tensor& x, const at::Tensor& grad, int64_t parts)
      : kernels_(kernels), plan_(plan), lanes_(lanes_of(plan.out)), filled_(with_whole_lanes(grad)) {
    in_ = images_of(x);
    grad_ = images_of(filled_);
    size_ = static_cast<int64_t>(plan.pixels[0].taps.size()) * plan.in * lanes_;
    sums_ = at::zeros({parts, size_}, grad.options().memory_format(at::MemoryFormat::Contiguous));
  }

  void add(int64_t part, int64_t image, float* memory) const {
    const Pixels& pixels = plan_.pixels[0];
    for (int64_t band = 0; band < plan_.bands(); ++band) {
      kernels_.direct.pack(in_, image, plan_.packed(band, memory));
      kernels_.direct.weight_gradient(
          {memory, plan_.row(), plan_.block(), plan_.in, pixels.taps.data(), static_cast<int64_t>(pixels.taps.size()),
           grad_.data + image * grad_.image + plan_.first_row(band, pixels) * grad_.row, plan_.rows(band, pixels),
           plan_.width, grad_.row, grad_.pixel, lanes_, sums_.mutable_data_ptr<float>() + part * size_});
    }
  }

  at::Tensor total(const at::Tensor& weight) const {
    at::Tensor grad = at::empty_like(weight);
    std::vector<double> total(size_, 0.0);
    for (int64_t p = 0; p < sums_.size(0); ++p) {
      const float* const sums = sums_.const_data_ptr<float>() + p * size_;
      for (int64_t i = 0; i < size_; ++i) total[i] += sums[i];
    }
    const int64_t kernel = weight.size(2);
    const double* from = total.data();
    for (int64_t tap = 0; tap < kernel * kernel; ++tap) {
      float* const first =
          grad.mutable_data_ptr<float>() + tap / kernel * grad.stride(2) + tap % kernel * grad.stride(3);
      for (int64_t c = 0; c < plan_.in; ++c) {
        for (int64_t k = 0; k < plan_.out; ++k) {
          first[k * grad.stride(0) + c * grad.stride(1)] = static_cast<float>(from[k]);
        }
        from += lanes_;
      }
    }
    return grad;
  }

 private:
  const Kernels& kernels_;
  const Plan& plan_;
  int64_t lanes_, size_;
  at::Tensor filled_, sums_;
  Images in_, grad_;
};

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
    int64_t stride, double slope, std::array<bool, 4> wanted) {
  check_narrow_grad(name, grad, x, weight, out, stride, slope);
  const auto [x_wanted, weight_wanted, bias_wanted, residual_wanted] = wanted;
  const int64_t images = x.size(0), kernel = weight.size(2);
  const Plan plan = Plan::forward(kernel, stride, x.size(1), weight.size(0), x.size(2), x.size(3));
  const Plan adjoint = Plan::adjoint(kernel, stride, x.size(1), weight.size(0), x.size(2), x.size(3));
  const Kernels& kernels = active_kernels();
  const at::Tensor before = slope == 1 ? with_channels_innermost(grad) : cut(kernels, grad, *out, slope);
  const at::Tensor inputs = weight_wanted ? with_channels_innermost(x) : x;

  at::Tensor x_grad, weights;
  if (x_wanted) {
    x_grad = empty_images(x.sizes(), x);
    weights = pack_weight(weight, true);
  }
  const bool any = before.numel() > 0;
  const int64_t parts = !any ? 0 : weight_wanted ? parts_of(images, weight) : images;
  std::optional<WeightGradient> weight_grad;
  if (weight_wanted) weight_grad.emplace(kernels, plan, inputs, before, parts);
  const Images from = images_of(before), to = x_wanted ? images_of(x_grad) : Images{};
  const int64_t floats = std::max(weight_wanted ? plan.packed_floats() : 0, x_wanted ? adjoint.packed_floats() : 0);
  at::parallel_for(0, x_wanted || weight_wanted ? parts : 0, 1, [&](int64_t begin, int64_t end) {
    const at::Tensor memory = empty_floats(floats, before);
    float* const packed = memory.mutable_data_ptr<float>();
    for (int64_t p = begin; p < end; ++p) {
      for (int64_t image = images * p / parts; image < images * (p + 1) / parts; ++image) {
        if (weight_wanted) weight_grad->add(p, image, packed);
        for (int64_t band = 0; x_wanted && band < adjoint.bands(); ++band) {
          convolve(kernels, adjoint, from, weights.const_data_ptr<float>(), to, {}, image, band, packed);
        }
      }
    }
  });

  std::vector<at::Tensor> grads;
  if (x_wanted) grads.push_back(x_grad);
  if (weight_wanted) grads.push_back(weight_grad->total(weight));
  if (bias_wanted) grads.push_back(bias_gradient(kernels, before));
  if (residual_wanted) grads.push_back(slope == 1 ? before.clone(at::MemoryFormat::ChannelsLast) : before);
  return grads;
}

TORCH_LIBRARY_IMPL(dfad_fast, CPU, m) {
  m.impl("narrow_conv2d_backward", narrow_conv2d_backward);
}

}  // namespace
}  // namespace dfad::cpu::narrow_conv2d
