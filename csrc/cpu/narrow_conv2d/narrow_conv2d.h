#pragma once

// What forward and backward of narrow_conv2d share.

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include "plan.h"

namespace dfad::cpu::narrow_conv2d {

constexpr const char* name = "narrow_conv2d";

// Channels in one piece, as channels_last has them; other dimensions may have any strides.
inline at::Tensor with_channels_innermost(const at::Tensor& x) {
  return x.stride(1) == 1 || x.size(1) == 1 ? x : x.contiguous(at::MemoryFormat::ChannelsLast);
}

inline at::Tensor empty_images(at::IntArrayRef sizes, const at::Tensor& like) {
  return at::empty(sizes, like.options().memory_format(at::MemoryFormat::ChannelsLast));
}

inline at::Tensor empty_floats(int64_t count, const at::Tensor& like) {
  return at::empty({count}, like.options().memory_format(at::MemoryFormat::Contiguous));
}

inline Images images_of(const at::Tensor& x) {
  return {
      const_cast<float*>(x.const_data_ptr<float>()), x.size(1), x.size(2), x.size(3), x.stride(0), x.stride(2),
      x.stride(3)};
}

// The filters as [taps][in][lanes]; for the adjoint turned by half a turn, and with their channels changed about.
at::Tensor pack_weight(const at::Tensor& weight, bool adjoint);

// What is added to the result beside the sums. `residual` has no data where there is none; `shifted_sums` hold 3 * lanes
// numbers for each image's bands, or none.
struct Ends {
  const float* bias = nullptr;
  Images residual;
  float slope = 1;
  float* shifted_sums = nullptr;
};

// One band of one image.
void convolve(
    const Kernels& kernels, const Plan& plan, const Images& in, const float* weights, const Images& out,
    const Ends& ends, int64_t image, int64_t band, float* memory);

}  // namespace dfad::cpu::narrow_conv2d
