#pragma once

// What forward and backward of winograd_conv2d share: how tensors are looked at, and how tiles are gone through.

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <initializer_list>
#include <vector>

#include "../panels.h"
#include "../tiers.h"

namespace dfad::cpu::winograd {

constexpr const char* name = "winograd_conv2d";

inline int64_t components_of(int64_t tile) { return (tile + 2) * (tile + 2); }

// Channels in one piece, as channels_last has them; other dimensions may have any strides.
inline at::Tensor with_channels_innermost(const at::Tensor& x) {
  return x.stride(1) == 1 || x.size(1) == 1 ? x : x.contiguous(at::MemoryFormat::ChannelsLast);
}

inline at::Tensor empty_images(at::IntArrayRef sizes, const at::Tensor& like) {
  return at::empty(sizes, like.options().memory_format(at::MemoryFormat::ChannelsLast));
}

inline Images images_of(const at::Tensor& x, const at::Tensor& zeros = {}) {
  return {
      const_cast<float*>(x.const_data_ptr<float>()),
      x.size(1),
      x.size(2),
      x.size(3),
      x.stride(0),
      x.stride(2),
      x.stride(3),
      zeros.defined() ? zeros.const_data_ptr<float>() : nullptr};
}

// The filters as panels of output channels, for the convolution, or of input channels, for its adjoint.
inline Filters filters_of(const at::Tensor& weight, bool adjoint) {
  const int lanes = adjoint ? 1 : 0, rows = adjoint ? 0 : 1;
  return {
      const_cast<float*>(weight.const_data_ptr<float>()),
      weight.size(lanes),
      weight.size(rows),
      weight.stride(lanes),
      weight.stride(rows),
      weight.stride(2),
      weight.stride(3)};
}

inline TransformedTiles transformed_filters(const at::Tensor& transformed, const Filters& filters) {
  return {const_cast<float*>(transformed.const_data_ptr<float>()), transformed.size(1), filled_up(filters.rows)};
}

// The filters, transformed, as one operand of the products.
at::Tensor transform_weight(const at::Tensor& weight, int64_t tile, bool adjoint);

// How the tiles of a batch are gone through. Nothing here depends on the number of threads: sums are the same for any.
class Plan {
 public:
  Plan(at::IntArrayRef images, int64_t in, int64_t out, int64_t tile, bool weight_grad = false)
      : tile(static_cast<int>(tile)),
        components(components_of(tile)),
        in(panels_of(in)),
        out(panels_of(out)),
        per_image(divided_up(images[2], tile) * divided_up(images[3], tile)),
        tiles(images[0] * per_image),
        kept_filters_(weight_grad ? kept_sums : kept_filters) {}

  // Whether each thread takes blocks of tiles through all components, for which the transformed filters must stay in
  // its cache; else all threads share the components of large blocks.
  bool by_blocks() const { return components * in * out * panel_size * panel_size <= kept_filters_; }

  int64_t block(int64_t panels) const {
    const int64_t one = components * panels * panel_size;
    const int64_t shared = std::max(shared_rows / (std::max(in, out) * panel_size), fewest_shared);
    return std::clamp<int64_t>(by_blocks() ? kept_tiles / one : shared, 1, tiles);
  }

  // A block that holds whole images, because their tiles overlap.
  int64_t block_of_images(int64_t panels) const {
    return std::min(std::max<int64_t>(block(panels) / per_image, 1) * per_image, tiles);
  }

  const int tile;
  const int64_t components, in, out, per_image, tiles;

 private:
  // In elements, and measured where the second cache holds 2^19 of them. The filters' gradient, which each block reads
  // and writes, must be smaller than filters that are only read.
  static constexpr int64_t kept_filters = 768 << 10, kept_sums = 256 << 10, kept_tiles = 256 << 10;
  static constexpr int64_t shared_rows = 32 << 10, fewest_shared = 128;

  const int64_t kept_filters_;
};

// Memory for the transformed tiles of a block, of several kinds, for each thread that works on its own blocks. Threads
// get it at once, from the one that calls the op.
class Scratch {
 public:
  Scratch(
      const Plan& plan, int64_t tiles, std::initializer_list<int64_t> panels, int64_t threads, const at::Tensor& like)
      : plan_(plan), tiles_(tiles), panels_(panels) {
    for (const int64_t p : panels_) size_ += plan.components * component_stride(tiles, p);
    memory_ = at::empty({threads, size_}, like.options().memory_format(at::MemoryFormat::Contiguous));
  }

  TransformedTiles of(int64_t thread, size_t kind) const {
    int64_t offset = thread * size_;
    for (size_t k = 0; k < kind; ++k) offset += plan_.components * component_stride(tiles_, panels_[k]);
    return {memory_.mutable_data_ptr<float>() + offset, component_stride(tiles_, panels_[kind]), tiles_};
  }

 private:
  const Plan& plan_;
  int64_t tiles_, size_ = 0;
  std::vector<int64_t> panels_;
  at::Tensor memory_;
};

// Panel `panel` of c = a filters, for one component.
inline void multiply(
    const Kernels& kernels, const TransformedTiles& a, const TransformedTiles& filters,
    const TransformedTiles& c, int64_t tiles, int64_t component, int64_t panel) {
  kernels.multiply(
      {panel_of(a, component, 0), a.tiles * panel_size, false, panel_of(filters, component, panel),
       panel_of(c, component, panel), tiles, filters.tiles, false});
}

}  // namespace dfad::cpu::winograd
