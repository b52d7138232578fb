// Backward of a 3x3 convolution to few channels, such as a generator's last one, in the including tier's namespace and
// instruction set. Its products are so few that computing them twice is cheaper than keeping them: once for the sums
// that the batch norm's gradient needs, and once, with these sums, for that gradient itself.

// One row of pixels and one register of channels; `body` gets a pixel's index, value, and the gradient of what was
// convolved.
template <bool weights_wanted, class Lanes, class Body>
DFAD_INLINE void narrow_row(
    const NarrowRows& of, const BlockNorm& norm, const float* x, const float* grads, std::int64_t c, Lanes lanes,
    const Body& body) {
  const F32 scale = load_lanes(norm.scale + c, lanes), shift = load_lanes(norm.shift + c, lanes);
  const std::int64_t padded = (of.width + 2) * of.out;
  for (std::int64_t o = 0; o < of.out; ++o) {
    F32 weights[9], sums[9];
    const std::int64_t first = o * 9 * norm.channels + c;
#pragma GCC unroll 9
    for (int tap = 0; tap < 9; ++tap) {
      weights[tap] = load_lanes(of.weights + first + tap * norm.channels, lanes);
      if (weights_wanted) sums[tap] = load_lanes(of.weight_sums + first + tap * norm.channels, lanes);
    }
    for (std::int64_t j = 0; j < of.width; ++j) {
      const float* const source = x + j * norm.channels + c;
      __builtin_prefetch(source + of.width * norm.channels, 0, 2);
      const F32 pixel = load_lanes(source, lanes);
      const F32 affine = pixel * scale + shift;
      const Mask32 cut = not_positive(affine);
      F32 active{}, grad{};
      if (weights_wanted) active = select(cut, affine * norm.slope, affine);
      if (o > 0) grad = load(of.partial + j * width<float>);
#pragma GCC unroll 9
      for (int tap = 0; tap < 9; ++tap) {
        const F32 g = broadcast(grads + (2 - tap / 3) * padded + (j + 2 - tap % 3) * of.out + o);
        grad = multiply_add(weights[tap], g, grad);
        if (weights_wanted) sums[tap] = multiply_add(active, g, sums[tap]);
      }
      if (o + 1 < of.out) {
        store(of.partial + j * width<float>, grad);
      } else {
        body(j, pixel, select(cut, grad * norm.slope, grad));
      }
    }
    if (weights_wanted) {
#pragma GCC unroll 9
      for (int tap = 0; tap < 9; ++tap) {
        store_lanes(of.weight_sums + first + tap * norm.channels, sums[tap], lanes);
      }
    }
  }
}

// Calls body(x and grads at the row, first channel, lanes) for each row and register.
template <class Body>
DFAD_INLINE void for_each_narrow_row(const NarrowRows& of, const BlockNorm& norm, const Body& body) {
  const Range panels = {0, (norm.channels + panel_size - 1) / panel_size};
  for (std::int64_t r = 0; r < of.rows; ++r) {
    const float* const grads = of.grads + r * (of.width + 2) * of.out;
    for_each_register(norm.channels, panels, 0, [&](std::int64_t c, std::int64_t, auto lanes) {
      body(r * of.width * norm.channels, grads, c, lanes);
    });
  }
}

// Adds up the weights' gradient, and per channel the gradient of the batch norm's affine map and its products with the
// normalised x.
static void narrow_sums(const NarrowRows& of, const BlockNorm& norm, const float* x, float* sums, float* products) {
  for_each_narrow_row(of, norm, [&](std::int64_t row, const float* grads, std::int64_t c, auto lanes) {
    const F32 mean = load_lanes(norm.mean + c, lanes), rstd = load_lanes(norm.rstd + c, lanes);
    F32 sum = load_lanes(sums + c, lanes), product = load_lanes(products + c, lanes);
    const auto add = [&](std::int64_t, F32 pixel, F32 grad) {
      sum += grad;
      product += grad * ((pixel - mean) * rstd);
    };
    if (of.weight_sums != nullptr) {
      narrow_row<true>(of, norm, x + row, grads, c, lanes, add);
    } else {
      narrow_row<false>(of, norm, x + row, grads, c, lanes, add);
    }
    store_lanes(sums + c, sum, lanes);
    store_lanes(products + c, product, lanes);
  });
}

// The gradient of x; `sums` and `products` are means over the batch.
static void narrow_gradient(
    const NarrowRows& of, const BlockNorm& norm, const float* x, const float* sums, const float* products,
    bool streamed, float* x_grad) {
  streamed = streamed && norm.channels % width<float> == 0;
  for_each_narrow_row(of, norm, [&](std::int64_t row, const float* grads, std::int64_t c, auto lanes) {
    const F32 scale = load_lanes(norm.scale + c, lanes), mean = load_lanes(norm.mean + c, lanes);
    const F32 rstd = load_lanes(norm.rstd + c, lanes);
    const F32 mean_grad = load_lanes(sums + c, lanes), mean_product = load_lanes(products + c, lanes);
    narrow_row<false>(of, norm, x + row, grads, c, lanes, [&](std::int64_t j, F32 pixel, F32 grad) {
      const F32 value = scale * (grad - mean_grad - ((pixel - mean) * rstd) * mean_product);
      float* const target = x_grad + row + j * norm.channels + c;
      if (streamed) {
        put_lanes<true>(target, value, lanes);
      } else {
        put_lanes<false>(target, value, lanes);
      }
    });
  });
#if DFAD_REGISTER_BYTES == 64
  if (streamed) _mm_sfence();
#endif
}
