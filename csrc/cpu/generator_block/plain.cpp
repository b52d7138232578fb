// A generator's block that does not upsample: the products of a pixel with the nine taps of the weights, gathered.

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include "generator_block.h"
#include "matrix_product.h"

namespace dfad::cpu {
namespace {

constexpr int64_t tap_count = 9;
// What an item's scratch may take, so that it stays in a core's second-level cache beside the weights.
constexpr int64_t scratch_bytes = 768 * 1024;
constexpr int64_t most_pixels = 1024;

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

// A convolution's sizes, and its weights as [channels in, taps, channels out].
struct Taps {
  int64_t batch, height, width, in, out;
  at::Tensor weights, zeros;

  Taps(const at::Tensor& x, const at::Tensor& weight)
      : batch(x.size(0)),
        height(x.size(2)),
        width(x.size(3)),
        in(x.size(1)),
        out(weight.size(0)),
        weights(weight.permute({1, 2, 3, 0}).contiguous()),
        zeros(at::zeros({tap_count * out}, weights.options())) {}

  int64_t count() const { return tap_count * out; }
  BlockImage image() const { return {height, width, out, zeros.const_data_ptr<float>()}; }
};

}  // namespace

at::Tensor plain_forward(const BlockForward& pass) {
  const Taps taps(pass.x, pass.weight);
  const Kernels& kernels = pass.kernels;
  constexpr int64_t halo = 1;
  const Items items(taps.batch, taps.height, taps.width, taps.in + taps.count(), halo);
  const float *x = pass.x.const_data_ptr<float>(), *w = taps.weights.const_data_ptr<float>();
  float* y = pass.out.mutable_data_ptr<float>();
  const int64_t image_pixels = taps.height * taps.width;
  Statistics of_output(items.count, taps.out, pass.x);
  const int64_t most = items.images * std::min(items.rows + 2 * halo, taps.height) * taps.width;
  const bool streamed = pass.out.numel() > streamed_floats;
  const int64_t most_made = streamed ? items.images * items.rows * taps.width * taps.out : 0;
  const auto prepare = [&] { return scratch(pass.x, most * (taps.in + taps.count()) + most_made); };
  share_out(items.count, prepare, [&](int64_t index, const at::Tensor& memory) {
    float *normalized = memory.mutable_data_ptr<float>(), *products = normalized + most * taps.in;
    const Item item(items, index, halo);
    const int64_t pixels = item.images * (item.last - item.first) * taps.width;
    const float* from = x + (item.image * image_pixels + item.first * taps.width) * taps.in;
    kernels.block.normalize(pass.norm.get(), from, pixels, normalized);
    multiply(pixels, taps.count(), taps.in, normalized, w, products);
    const int64_t image_made = (item.end - item.begin) * taps.width * taps.out;
    float* target = y + (item.image * image_pixels + item.begin * taps.width) * taps.out;
    float* made = streamed ? products + most * taps.count() : target;
    for (int64_t i = 0; i < item.images; ++i) {
      kernels.block.gather(
          taps.image(), products + i * image_pixels * taps.count(), item.first, pass.bias, item.begin, item.end,
          made + i * image_made);
    }
    // While the item's output is in the cache; whoever normalizes it next is spared a pass.
    const int64_t rows = item.images * image_made / taps.out;
    float* const means = of_output.means(index, rows);
    kernels.block.statistics(made, rows, taps.out, means, of_output.squares(index));
    if (streamed) kernels.block.stream(made, item.images * image_made, target);
  });
  return of_output.joined();
}

void plain_backward(BlockBackward& pass) {
  const Taps taps(pass.x, pass.weight);
  const Kernels& kernels = pass.kernels;
  const Items items(taps.batch, taps.height, taps.width, taps.in + taps.count(), 0);
  const int64_t chunks = static_cast<int64_t>(pass.sums.size()), weights = taps.in * taps.count();
  const float *x = pass.x.const_data_ptr<float>(), *w = taps.weights.const_data_ptr<float>(),
              *dy = pass.grad.const_data_ptr<float>();
  float* dx = pass.below() ? pass.x_grad.mutable_data_ptr<float>() : nullptr;
  float* dw = pass.weight_wanted ? pass.weight_grads.mutable_data_ptr<float>() : nullptr;
  const int64_t image_pixels = taps.height * taps.width;
  const int64_t most = items.images * items.rows * taps.width;
  const auto prepare = [&] { return scratch(pass.x, most * (taps.in + taps.count())); };
  share_out(chunks, prepare, [&](int64_t chunk, const at::Tensor& memory) {
    float *normalized = memory.mutable_data_ptr<float>(), *products = normalized + most * taps.in;
    std::vector<float> grad_sums(taps.in), product_sums(taps.in), output_sums(taps.out);
    Sums& sums = pass.sums[chunk];
    if (pass.weight_wanted) std::fill_n(dw + chunk * weights, weights, 0.0f);
    for (int64_t index = chunk * items.count / chunks; index < (chunk + 1) * items.count / chunks; ++index) {
      const Item item(items, index, 0);
      const int64_t image_rows = (item.end - item.begin) * taps.width, pixels = item.images * image_rows;
      const int64_t start = item.image * image_pixels + item.begin * taps.width;
      const float* from = x + start * taps.in;
      for (int64_t i = 0; i < item.images; ++i) {
        kernels.block.spread(
            taps.image(), dy + (item.image + i) * image_pixels * taps.out, item.begin, item.end,
            products + i * image_rows * taps.count());
      }
      if (pass.below()) {
        multiply_transposed(pixels, taps.in, taps.count(), products, w, dx + start * taps.in);
        kernels.block.activation_gradient(
            pass.norm.get(), from, pixels, dx + start * taps.in, grad_sums.data(), product_sums.data());
        add_to(sums.grads, grad_sums);
        add_to(sums.products, product_sums);
      }
      if (pass.weight_wanted) {
        kernels.block.normalize(pass.norm.get(), from, pixels, normalized);
        add_product(taps.in, taps.count(), pixels, normalized, products, dw + chunk * weights);
      }
      if (pass.bias_wanted) {
        kernels.block.add_rows(dy + start * taps.out, pixels, taps.out, output_sums.data());
        add_to(sums.outputs, output_sums);
      }
    }
  });
}

}  // namespace dfad::cpu
