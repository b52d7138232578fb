// 3x3 convolutions of images of few channels by Winograd's minimal filtering F(4x4, 3x3), in the including tier's
// namespace and instruction set; winograd/ does it for 32 channels and more.
//
// Transformed tiles of images lie as [component][block][tile][8 channels], gradients and sums as [component][tile][lanes].
// Points and order of the transforms are those of winograd/transforms.inl, with fused multiply-adds.

#if DFAD_REGISTER_BYTES == 64
using TileLanes = F32x8;
#else
using TileLanes = F32;
#endif
constexpr std::int64_t tile_width = sizeof(TileLanes) / sizeof(float);

template <class V>
DFAD_INLINE V multiply_add(float a, V b, V c) {
  return multiply_add(V{} + a, b, c);
}

struct NarrowWinograd {
  static constexpr float a = 0.75f, b = 1.5f, a2 = a * a, b2 = b * b, product = a2 * b2, sum = a2 + b2;
  // One over what the points divide filters by.
  static constexpr float by0 = 1 / product, by_a = 0.5f / (a2 * (a2 - b2)), by_b = 0.5f / (b2 * (b2 - a2));

  struct Input {
    static constexpr int in = 6, out = 6;
    template <class V>
    DFAD_INLINE_MEMBER static void apply(const V* x, V* y) {
      const V even_a = multiply_add(-b2, x[2], x[4]), odd_a = multiply_add(-b2, x[1], x[3]);
      const V even_b = multiply_add(-a2, x[2], x[4]), odd_b = multiply_add(-a2, x[1], x[3]);
      y[0] = multiply_add(product, x[0], multiply_add(-sum, x[2], x[4]));
      y[1] = multiply_add(a, odd_a, even_a);
      y[2] = multiply_add(-a, odd_a, even_a);
      y[3] = multiply_add(b, odd_b, even_b);
      y[4] = multiply_add(-b, odd_b, even_b);
      y[5] = multiply_add(product, x[1], multiply_add(-sum, x[3], x[5]));
    }
  };
  struct Output {
    static constexpr int in = 6, out = 4;
    template <class V>
    DFAD_INLINE_MEMBER static void apply(const V* x, V* y) {
      const V sum_a = x[1] + x[2], difference_a = x[1] - x[2], sum_b = x[3] + x[4], difference_b = x[3] - x[4];
      y[0] = x[0] + (sum_a + sum_b);
      y[1] = multiply_add(a, difference_a, b * difference_b);
      y[2] = multiply_add(a2, sum_a, b2 * sum_b);
      y[3] = multiply_add(a * a2, difference_a, multiply_add(b * b2, difference_b, x[5]));
    }
  };
  struct OutputAdjoint {
    static constexpr int in = 4, out = 6;
    template <class V>
    DFAD_INLINE_MEMBER static void apply(const V* x, V* y) {
      const V even_a = multiply_add(a2, x[2], x[0]), odd_a = multiply_add(a2, x[3], x[1]);
      const V even_b = multiply_add(b2, x[2], x[0]), odd_b = multiply_add(b2, x[3], x[1]);
      y[0] = x[0];
      y[1] = multiply_add(a, odd_a, even_a);
      y[2] = multiply_add(-a, odd_a, even_a);
      y[3] = multiply_add(b, odd_b, even_b);
      y[4] = multiply_add(-b, odd_b, even_b);
      y[5] = x[3];
    }
  };
  struct Filter {
    static constexpr int in = 3, out = 6;
    template <class V>
    DFAD_INLINE_MEMBER static void apply(const V* x, V* y) {
      const V even_a = by_a * multiply_add(a2, x[2], x[0]), odd_a = by_a * a * x[1];
      const V even_b = by_b * multiply_add(b2, x[2], x[0]), odd_b = by_b * b * x[1];
      y[0] = by0 * x[0];
      y[1] = even_a + odd_a;
      y[2] = even_a - odd_a;
      y[3] = even_b + odd_b;
      y[4] = even_b - odd_b;
      y[5] = x[2];
    }
  };
  struct FilterAdjoint {
    static constexpr int in = 6, out = 3;
    template <class V>
    DFAD_INLINE_MEMBER static void apply(const V* x, V* y) {
      const V sum_a = by_a * (x[1] + x[2]), sum_b = by_b * (x[3] + x[4]);
      y[0] = multiply_add(by0, x[0], sum_a + sum_b);
      y[1] = multiply_add(by_a * a, x[1] - x[2], by_b * b * (x[3] - x[4]));
      y[2] = multiply_add(a2, sum_a, multiply_add(b2, sum_b, x[5]));
    }
  };
};

// Columns, then rows. Columns j for which there(j) is not true are zeros; read(i, j) gives the input, row(i, values)
// takes a row of the output.
template <class Side, class V, class There, class Read, class Row>
DFAD_INLINE void transform_tile(const There& there, const Read& read, const Row& row) {
  V half[Side::out][Side::in];
#pragma GCC unroll 6
  for (int j = 0; j < Side::in; ++j) {
    V x[Side::in], y[Side::out] = {};
    if (there(j)) {
#pragma GCC unroll 6
      for (int i = 0; i < Side::in; ++i) x[i] = read(i, j);
      Side::apply(x, y);
    }
#pragma GCC unroll 6
    for (int i = 0; i < Side::out; ++i) half[i][j] = y[i];
  }
#pragma GCC unroll 6
  for (int i = 0; i < Side::out; ++i) {
    V y[Side::out];
    Side::apply(half[i], y);
    row(i, y);
  }
}

// Rows of a window whose first one is `top`. Beyond the image, zeros: here as many as a row has floats.
template <int size>
DFAD_INLINE void find_rows(const Images& images, Place at, std::int64_t top, const float* (&rows)[size]) {
  for (int i = 0; i < size; ++i) {
    const std::int64_t y = top + i;
    const bool inside = y >= 0 && y < images.height;
    rows[i] = inside ? images.data + at.image * images.image + y * images.row : images.zeros;
  }
}

// The pixels of the tile that comes so many tiles later.
template <bool written>
DFAD_INLINE void prefetch_tile(const Images& images, const float* pixel) {
  const float* const later = pixel + narrow_tiles * 16 * images.pixel;
  for (std::int64_t i = 0; i < 4; ++i) prefetch_floats<written>(later + i * images.row, 4 * images.pixel);
}

static void tiles_input(const Images& images, const NarrowTiles& tiles, float* out) {
  constexpr std::int64_t block = narrow_room * packed_channels;
  const auto body = [&](std::int64_t t, Place at) {
    const float* rows[6];
    find_rows(images, at, at.row * 4 - 1, rows);
    const std::int64_t left = at.column * 4 - 1;
    const auto there = [&](int j) { return left + j >= 0 && left + j < images.width; };
    prefetch_tile<false>(images, rows[1] + left * images.pixel);
    for (std::int64_t c = 0; c < images.channels; c += tile_width) {
      float* const to = out + c / packed_channels * block + t * packed_channels + c % packed_channels;
      const auto write = [&](int i, const TileLanes* y) {
#pragma GCC unroll 6
        for (int j = 0; j < 6; ++j) std::memcpy(to + (i * 6 + j) * tiles.component, &y[j], sizeof(TileLanes));
      };
      const std::int64_t first = left * images.pixel + c;
      if (images.channels - c >= tile_width) {
        transform_tile<NarrowWinograd::Input, TileLanes>(
            there, [&](int i, int j) { return load_as<TileLanes>(rows[i] + first + j * images.pixel); }, write);
      } else {
        const std::int64_t meant = images.channels - c;
        transform_tile<NarrowWinograd::Input, TileLanes>(
            there, [&](int i, int j) { return load_values<TileLanes>(rows[i] + first + j * images.pixel, meant); },
            write);
      }
    }
  };
  for_each_image_tile<4>(images, {tiles.first, tiles.count, {}}, body);
}

static void tiles_gradient(const Images& grad, const NarrowTiles& tiles, float* out) {
  const std::int64_t lanes = (grad.channels + packed_channels - 1) / packed_channels * packed_channels;
  for_each_image_tile<4>(grad, {tiles.first, tiles.count, {}}, [&](std::int64_t t, Place at) {
    const float* rows[4];
    find_rows(grad, at, at.row * 4, rows);
    const std::int64_t left = at.column * 4;
    const auto there = [&](int j) { return left + j < grad.width; };
    prefetch_tile<false>(grad, rows[0] + left * grad.pixel);
    for (std::int64_t c = 0; c < lanes; c += tile_width) {
      const std::int64_t meant = grad.channels - c > 0 ? grad.channels - c : 0;
      float* const to = out + t * lanes + c;
      transform_tile<NarrowWinograd::OutputAdjoint, TileLanes>(
          there,
          [&](int i, int j) { return load_values<TileLanes>(rows[i] + (left + j) * grad.pixel + c, meant); },
          [&](int i, const TileLanes* y) {
#pragma GCC unroll 6
            for (int j = 0; j < 6; ++j) std::memcpy(to + (i * 6 + j) * tiles.component, &y[j], sizeof(TileLanes));
          });
    }
  });
}

// Returns how many pixels of an image there were.
static std::int64_t tiles_output(const float* sums, const Images& out, const NarrowTiles& tiles, const TilesEnd& ends) {
  const std::int64_t lanes = (out.channels + packed_channels - 1) / packed_channels * packed_channels;
  std::int64_t pixels = 0;
  for_each_image_tile<4>(out, {tiles.first, tiles.count, {}}, [&](std::int64_t t, Place at) {
    const std::int64_t top = at.row * 4, left = at.column * 4;
    const std::int64_t down = out.height - top, across = out.width - left;
    pixels += (down < 4 ? down : 4) * (across < 4 ? across : 4);
    const auto inside = [&](int i) { return i / 4 < down && i % 4 < across; };
    DirectEnd end;
    end.bias = ends.bias;
    end.slope = ends.slope;
    end.shifted_sums = ends.shifted_sums;
    if (ends.residual.data != nullptr) {
      const Images& residual = ends.residual;
      end.residual = residual.data + at.image * residual.image + top * residual.row + left * residual.pixel;
    }
    const auto place = [&](int i) { return i / 4 * ends.residual.row + i % 4 * ends.residual.pixel; };
    float* const to = out.data + at.image * out.image + top * out.row + left * out.pixel;
    prefetch_tile<true>(out, to);
    for (std::int64_t c = 0; c < out.channels; c += tile_width) {
      const std::int64_t meant = out.channels - c;
      const float* const from = sums + t * lanes + c;
      TileLanes values[16];
      transform_tile<NarrowWinograd::Output, TileLanes>(
          [](int) { return true; },
          [&](int i, int j) { return load_as<TileLanes>(from + (i * 6 + j) * tiles.component); },
          [&](int i, const TileLanes* y) {
#pragma GCC unroll 4
            for (int j = 0; j < 4; ++j) values[i * 4 + j] = y[j];
          });
      finish(end, c, meant, inside, place, values);
#pragma GCC unroll 16
      for (int i = 0; i < 16; ++i) {
        if (inside(i)) store_values<TileLanes>(to + i / 4 * out.row + i % 4 * out.pixel + c, values[i], meant);
      }
      if (end.shifted_sums != nullptr) add_statistics(end, lanes, c, t == 0, inside, values);
    }
  });
  return pixels;
}

// As many tiles as fill the registers at a time.
template <class Lanes>
static void multiply_tiles(const TileProducts& of, std::int64_t component, std::int64_t lane) {
  using V = typename Lanes::Values;
  constexpr int count = 2 * tile_pixels<Lanes>;
  static_assert((narrow_tiles + count - 1) / count * count <= narrow_room);
  const float* const source = of.tiles + component * of.component;
  const float* const weights = of.weights + component * of.channels * of.lanes + lane;
  float* const out = of.sums + component * of.sums_component + lane;
  for (std::int64_t t = 0; t < of.count; t += count) {
    V sums[count][Lanes::registers] = {};
    add_products<Lanes, count, 1>(
        source + t * packed_channels, 0, narrow_room * packed_channels, of.channels, weights, of.lanes, sums);
#pragma GCC unroll 32
    for (int i = 0; i < count; ++i) {
#pragma GCC unroll 2
      for (int k = 0; k < Lanes::registers; ++k) {
        std::memcpy(out + (t + i) * of.lanes + k * Lanes::width, &sums[i][k], sizeof(V));
      }
    }
  }
}

static void tiles_multiply(const TileProducts& of) {
  for_each_piece(of.lanes, true, [&](auto lanes, std::int64_t lane) {
    for (std::int64_t e = 0; e < 36; ++e) multiply_tiles<decltype(lanes)>(of, e, lane);
  });
}

static void tiles_weight_gradient(const TileProducts& of, const float* grads, float* sums) {
  const ConvolutionTap tap = {0, 0};
  for (std::int64_t e = 0; e < 36; ++e) {
    direct_weight_gradient(
        {of.tiles + e * of.component, 0, narrow_room * packed_channels, of.channels, &tap, 1,
         grads + e * of.sums_component, 1, of.count, 0, of.lanes, of.lanes, sums + e * of.channels * of.lanes});
  }
}

// Takes `count` filters from [tap][filter] to [component][filter].
static void tiles_filters(const float* filters, std::int64_t count, float* out) {
  for (std::int64_t k = 0; k < count; k += tile_width) {
    transform_tile<NarrowWinograd::Filter, TileLanes>(
        [](int) { return true; }, [&](int i, int j) { return load_as<TileLanes>(filters + (i * 3 + j) * count + k); },
        [&](int i, const TileLanes* y) {
          for (int j = 0; j < 6; ++j) std::memcpy(out + (i * 6 + j) * count + k, &y[j], sizeof(TileLanes));
        });
  }
}

static void tiles_filters_adjoint(const float* sums, std::int64_t count, float* out) {
  for (std::int64_t k = 0; k < count; k += tile_width) {
    transform_tile<NarrowWinograd::FilterAdjoint, TileLanes>(
        [](int) { return true; }, [&](int i, int j) { return load_as<TileLanes>(sums + (i * 6 + j) * count + k); },
        [&](int i, const TileLanes* y) {
          for (int j = 0; j < 3; ++j) std::memcpy(out + (i * 3 + j) * count + k, &y[j], sizeof(TileLanes));
        });
  }
}
