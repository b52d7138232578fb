#include <ATen/ops/zeros.h>

#include <algorithm>

#include "narrow_conv2d.h"

namespace dfad::cpu::narrow_conv2d {
namespace {

constexpr int64_t components = 36;

// From component to component: an odd number of cache lines, so that those of one tile lie in different sets.
int64_t component_of(int64_t channels) { return narrow_room * lanes_of(channels) + 16; }

int64_t tiles_in(const at::Tensor& images) {
  return images.size(0) * ((images.size(2) + 3) / 4) * ((images.size(3) + 3) / 4);
}

NarrowTiles chunk(int64_t index, int64_t tiles, int64_t component) {
  const int64_t first = index * narrow_tiles;
  return {first, std::min(narrow_tiles, tiles - first), component};
}

int64_t chunks_of(int64_t tiles) { return (tiles + narrow_tiles - 1) / narrow_tiles; }

// Zeros in place of a row that lies beyond the image.
at::Tensor zero_row(const at::Tensor& images) {
  return at::zeros(
      {images.size(3) * images.stride(3) + lanes_of(images.size(1))},
      images.options().memory_format(at::MemoryFormat::Contiguous));
}

// Items are chunks of tiles, of all images.
class TiledItems : public Convolution {
 public:
  TiledItems(
      const Kernels& kernels, const at::Tensor& x, const at::Tensor& packed_weight, const at::Tensor& out,
      const Ends& ends)
      : kernels_(kernels), x_(x), zeros_(zero_row(x)), in_(images_of(x)), out_(images_of(out)), ends_(ends),
        tiles_(tiles_in(x)) {
    in_.zeros = zeros_.const_data_ptr<float>();
    const int64_t filters = packed_weight.numel() / 9;
    weights_ = empty_floats(components * filters, packed_weight);
    kernels.tiles.filters(packed_weight.const_data_ptr<float>(), filters, weights_.mutable_data_ptr<float>());
  }

  int64_t items() const override { return chunks_of(tiles_); }
  int64_t memory() const override { return components * (component_of(in_.channels) + component_of(out_.channels)); }

  int64_t run(int64_t item, float* memory, float* shifted_sums) const override {
    const int64_t in = component_of(in_.channels), out = component_of(out_.channels), lanes = lanes_of(out_.channels);
    const NarrowTiles tiles = chunk(item, tiles_, in);
    float* const products = memory + components * in;
    kernels_.tiles.input(in_, tiles, memory);
    kernels_.tiles.multiply(
        {memory, tiles.count, in, in_.channels, weights_.const_data_ptr<float>(), lanes, products, out});
    return kernels_.tiles.output(
        products, out_, chunk(item, tiles_, out), {ends_.bias, ends_.residual, ends_.slope, shifted_sums});
  }

 private:
  const Kernels& kernels_;
  at::Tensor x_, zeros_, weights_;
  Images in_, out_;
  Ends ends_;
  int64_t tiles_;
};

class TiledWeights : public WeightGradient {
 public:
  TiledWeights(const Kernels& kernels, const at::Tensor& x, const at::Tensor& grad)
      : kernels_(kernels), x_(x), grads_(grad), zeros_(zero_row(x)), grad_zeros_(zero_row(grad)), in_(images_of(x)),
        grad_(images_of(grad)), tiles_(tiles_in(x)) {
    in_.zeros = zeros_.const_data_ptr<float>();
    grad_.zeros = grad_zeros_.const_data_ptr<float>();
  }

  int64_t items() const override { return chunks_of(tiles_); }
  int64_t memory() const override { return components * (component_of(in_.channels) + component_of(grad_.channels)); }
  int64_t size() const override { return components * in_.channels * lanes_of(grad_.channels); }

  void add(int64_t item, float* memory, float* sums) const override {
    const int64_t in = component_of(in_.channels), out = component_of(grad_.channels);
    const NarrowTiles tiles = chunk(item, tiles_, in);
    float* const grads = memory + components * in;
    kernels_.tiles.input(in_, tiles, memory);
    kernels_.tiles.gradient(grad_, chunk(item, tiles_, out), grads);
    kernels_.tiles.weight_gradient(
        {memory, tiles.count, in, in_.channels, nullptr, lanes_of(grad_.channels), nullptr, out}, grads, sums);
  }

  at::Tensor packed(const at::Tensor& sums) const override {
    const int64_t filters = size() / components;
    at::Tensor taps = empty_floats(9 * filters, sums);
    kernels_.tiles.filters_adjoint(sums.const_data_ptr<float>(), filters, taps.mutable_data_ptr<float>());
    return taps;
  }

 private:
  const Kernels& kernels_;
  at::Tensor x_, grads_, zeros_, grad_zeros_;
  Images in_, grad_;
  int64_t tiles_;
};

}  // namespace

std::unique_ptr<Convolution> tiled_convolution(
    const Kernels& kernels, const at::Tensor& x, const at::Tensor& packed_weight, const at::Tensor& out,
    const Ends& ends) {
  return std::make_unique<TiledItems>(kernels, x, packed_weight, out, ends);
}

std::unique_ptr<WeightGradient> tiled_weight_gradient(
    const Kernels& kernels, const at::Tensor& x, const at::Tensor& grad) {
  return std::make_unique<TiledWeights>(kernels, x, grad);
}

}  // namespace dfad::cpu::narrow_conv2d
