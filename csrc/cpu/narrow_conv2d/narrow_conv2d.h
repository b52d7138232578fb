#pragma once

// What forward and backward of narrow_conv2d share: a convolution and its weights' gradient as items of work, directly or
// by tiles.

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <memory>
#include <vector>

#include "../tiers.h"
#include "packing.h"

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

// Items of work may be done in any order, on any thread, each of which has `memory` floats of its own.
struct Items {
  virtual ~Items() = default;
  virtual int64_t items() const = 0;
  virtual int64_t memory() const = 0;
};

struct Convolution : Items {
  // Gives the number of pixels that it computed. `shifted_sums` are 3 * lanes zeros that the item's statistics go to, or
  // none.
  virtual int64_t run(int64_t item, float* memory, float* shifted_sums = nullptr) const = 0;
};

struct WeightGradient : Items {
  // So many sums, which `add` adds to.
  virtual int64_t size() const = 0;
  virtual void add(int64_t item, float* memory, float* sums) const = 0;
  // The gradient as [taps][in][lanes] from such sums.
  virtual at::Tensor packed(const at::Tensor& sums) const = 0;
};

// What is added to the result beside the products.
struct Ends {
  const float* bias = nullptr;
  Images residual = {};
  float slope = 1;
};

// Takes images x to `out`; with `adjoint`, the result's gradient to that of the images. `tile` is 0 for a direct
// convolution.
std::unique_ptr<Convolution> make_convolution(
    const Kernels&, const at::Tensor& x, const at::Tensor& weight, int64_t stride, int64_t tile, bool adjoint,
    const at::Tensor& out, const Ends&);

std::unique_ptr<WeightGradient> make_weight_gradient(
    const Kernels&, const at::Tensor& x, const at::Tensor& grad, const at::Tensor& weight, int64_t stride,
    int64_t tile);

// The filters as [taps][in][lanes]; for the adjoint turned by half a turn, and with their channels changed about.
at::Tensor pack_weight(const at::Tensor& weight, bool adjoint);

std::unique_ptr<Convolution> tiled_convolution(
    const Kernels&, const at::Tensor& x, const at::Tensor& packed_weight, const at::Tensor& out, const Ends&);
std::unique_ptr<WeightGradient> tiled_weight_gradient(
    const Kernels&, const at::Tensor& x, const at::Tensor& grad);

std::unique_ptr<Convolution> direct_convolution(
    const Kernels&, const at::Tensor& x, const at::Tensor& packed_weight, int64_t kernel, int64_t stride, bool adjoint,
    const at::Tensor& out, const Ends&);
std::unique_ptr<WeightGradient> direct_weight_gradient(
    const Kernels&, const at::Tensor& x, const at::Tensor& grad, int64_t kernel, int64_t stride);

}  // namespace dfad::cpu::narrow_conv2d
