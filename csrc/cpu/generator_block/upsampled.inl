// A 3x3 convolution of a nearest-upsampled image, from the image itself, in the including tier's namespace and
// instruction set.
//
// On one side, with filter w and pixels d, the two outputs of pixel i are w0 d[i-1] + (w1 + w2) d[i] and (w0 + w1) d[i] +
// w2 d[i+1]. Around each even pixel c, five products give the four outputs that see it,
//
//   left0 = w0 (d[c-1] - d[c])    left1 = (w0 + w1) (d[c-1] - d[c])    centre = (w0 + w1 + w2) d[c]
//   right0 = (w1 + w2) (d[c+1] - d[c])    right1 = w2 (d[c+1] - d[c])
//
// 2c-1: left1 + centre; 2c: left0 + centre; 2c+1: right1 + centre; 2c+2: right0 + centre. Both sides make 25 products
// for 16 outputs, the products of Winograd's minimal filtering with points 0, 1 and infinity, the middle one shared.
//
// Tiles lie around even pixels of even rows: `rows of tiles` 0 to height / 2, where the last may have no centre, and 0 to
// (width - 1) / 2 across. Differences of rows are kept once, 3 kinds; of columns 4 kinds, the left one also for the next
// tile, so that each product takes rows of tiles that are in one piece.

enum UpsampledProduct { left0, left1, centre, right0, right1 };
constexpr int upsampled_sides = 5;

// The column of a difference that belongs to a tile, as a component: left, the next tile's left, centre, right.
constexpr int upsampled_columns = 4;

DFAD_INLINE std::int64_t tiles_across(const UpsampledTiles& of) { return (of.width + 1) / 2; }
DFAD_INLINE std::int64_t centre_rows(const UpsampledTiles& of) { return (of.height + 1) / 2; }

// Calls body(row of tiles, image, index of its first tile).
template <class Body>
DFAD_INLINE void for_each_row_of_tiles(const UpsampledTiles& of, const Body& body) {
  std::int64_t tile = 0;
  for (std::int64_t t = of.begin; t < of.end; ++t) {
    for (std::int64_t i = of.image; i < of.image + of.images; ++i) {
      body(t, i, tile);
      tile += tiles_across(of);
    }
  }
}

template <class Lanes>
DFAD_INLINE void upsampled_input_register(
    const BlockNorm& norm, const float* x, const UpsampledTiles& of, const TransformedTiles& target, std::int64_t c,
    std::int64_t place, Lanes lanes) {
  const F32 scale = load_lanes(norm.scale + c, lanes), shift = load_lanes(norm.shift + c, lanes);
  const std::int64_t across = tiles_across(of);
  for_each_row_of_tiles(of, [&](std::int64_t t, std::int64_t image, std::int64_t tile) {
    const float* rows[3];
    for (int k = 0; k < 3; ++k) {
      const std::int64_t y = 2 * t - 1 + k;
      const bool inside = y >= 0 && y < of.height;
      rows[k] = inside ? x + (image * of.height + y) * of.width * norm.channels + c : nullptr;
    }
    const auto pixels = [&](std::int64_t column, F32* values) {
#pragma GCC unroll 3
      for (int k = 0; k < 3; ++k) {
        if (rows[k] == nullptr || column >= of.width) {
          values[k] = F32{};
          continue;
        }
        const F32 v = load_lanes(rows[k] + column * norm.channels, lanes) * scale + shift;
        values[k] = select(not_positive(v), v * norm.slope, v);
      }
    };
    const bool has_centre = t < centre_rows(of);
    float* to = target.data + place + tile * panel_size;
    const auto write = [&](int column, const F32* values) {
      store(to + column * target.component, values[0] - values[1]);
      if (!has_centre) return;
      store(to + (upsampled_columns + column) * target.component, values[1]);
      store(to + (2 * upsampled_columns + column) * target.component, values[2] - values[1]);
    };
    F32 before[3] = {}, now[3];
    pixels(0, now);
    for (std::int64_t s = 0; s < across; ++s) {
      F32 next[3], after[3], left[3], next_left[3], right[3];
      pixels(2 * s + 1, next);
      pixels(2 * s + 2, after);
#pragma GCC unroll 3
      for (int k = 0; k < 3; ++k) {
        left[k] = before[k] - now[k];
        next_left[k] = next[k] - after[k];
        right[k] = next[k] - now[k];
      }
      write(0, left);
      write(1, next_left);
      write(2, now);
      write(3, right);
#pragma GCC unroll 3
      for (int k = 0; k < 3; ++k) {
        before[k] = next[k];
        now[k] = after[k];
      }
      to += panel_size;
    }
  });
}

// The normalised and activated image's differences.
static void upsampled_input(
    const BlockNorm& norm, const float* x, const UpsampledTiles& of, const TransformedTiles& target) {
  const Range panels = {0, (norm.channels + panel_size - 1) / panel_size};
  for_each_register(
      norm.channels, panels, target.tiles * panel_size, [&](std::int64_t c, std::int64_t place, auto lanes) {
        upsampled_input_register(norm, x, of, target, c, place, lanes);
      });
}

// Outputs' sum and sum of squares around a value.
struct Moments {
  F32 sums[4] = {}, squares[4] = {};
  F32 around;

  DFAD_INLINE_MEMBER void add(int k, F32 value) {
    const F32 deviation = value - around;
    sums[k] += deviation;
    squares[k] += deviation * deviation;
  }
};

// Output rows 4 t - 1 + [first, last) of one row of tiles.
template <int first, int last, bool streamed, class Lanes>
DFAD_INLINE void upsampled_output_row(
    const TransformedTiles& source, const UpsampledTiles& of, const float* from, F32 bias, float* const* to,
    std::int64_t channels, Moments& moments, Lanes lanes) {
  constexpr UpsampledProduct row_products[4] = {left1, left0, right1, right0};
  constexpr bool has_centre = last > 1;  // else it is the row past the image's last centre
  const auto product = [&](int row, int column) {
    return load(from + (row * upsampled_sides + column) * source.component);
  };
  // What the rows of tiles have of a column.
  const auto rows = [&](int column, F32* values) {
    const F32 middle = has_centre ? product(centre, column) : F32{};
#pragma GCC unroll 4
    for (int k = first; k < last; ++k) {
      values[k] = has_centre ? product(row_products[k], column) + middle : product(row_products[k], column);
    }
  };
  const auto put = [&](std::int64_t column, const F32* a, const F32* b) {
#pragma GCC unroll 4
    for (int k = first; k < last; ++k) {
      const F32 value = a[k] + b[k];
      moments.add(k, value);
      put_lanes<streamed>(to[k] + column * channels, value, lanes);
    }
  };
  F32 next_left[4] = {}, middle[4], side[4];
  const std::int64_t across = tiles_across(of);
  for (std::int64_t s = 0; s < across; ++s) {
    rows(centre, middle);
#pragma GCC unroll 4
    for (int k = first; k < last; ++k) middle[k] += bias;
    if (s > 0) put(4 * s - 1, next_left, middle);
    rows(left0, side);
    put(4 * s, side, middle);
    rows(right1, side);
    put(4 * s + 1, side, middle);
    if (2 * s + 1 < of.width) {
      rows(right0, side);
      put(4 * s + 2, side, middle);
      rows(left1, next_left);
    }
    from += panel_size;
  }
  if (of.width % 2 == 0) {
#pragma GCC unroll 4
    for (int k = first; k < last; ++k) middle[k] = bias;
    put(4 * across - 1, next_left, middle);
  }
}

template <bool streamed, class Lanes>
DFAD_INLINE void upsampled_output_register(
    const TransformedTiles& source, const UpsampledTiles& of, const float* biases, float* out, std::int64_t channels,
    float* means, float* squares, std::int64_t c, std::int64_t place, Lanes lanes) {
  const F32 bias = load_lanes(biases + c, lanes);
  F32 mean = bias, deviations = {};  // each row's are taken around the mean before it
  float count = 0;
  const std::int64_t out_height = 2 * of.height, out_width = 2 * of.width;
  for_each_row_of_tiles(of, [&](std::int64_t t, std::int64_t image, std::int64_t tile) {
    float* to[4];
    const std::int64_t top = 4 * t - 1;
    for (int k = 0; k < 4; ++k) to[k] = out + (image * out_height + top + k) * out_width * channels + c;
    const float* const from = source.data + place + tile * panel_size;
    Moments moments;
    moments.around = mean;
    const int first = t == 0 ? 1 : 0;
    const std::int64_t left = out_height - top;
    const int last = left < 4 ? static_cast<int>(left) : 4;
    if (last == 1) {
      upsampled_output_row<0, 1, streamed>(source, of, from, bias, to, channels, moments, lanes);
    } else if (last == 3) {
      if (first == 0) {
        upsampled_output_row<0, 3, streamed>(source, of, from, bias, to, channels, moments, lanes);
      } else {
        upsampled_output_row<1, 3, streamed>(source, of, from, bias, to, channels, moments, lanes);
      }
    } else if (first == 0) {
      upsampled_output_row<0, 4, streamed>(source, of, from, bias, to, channels, moments, lanes);
    } else {
      upsampled_output_row<1, 4, streamed>(source, of, from, bias, to, channels, moments, lanes);
    }
    const float added = static_cast<float>((last - first) * out_width), both = count + added;
    const F32 sum = (moments.sums[0] + moments.sums[1]) + (moments.sums[2] + moments.sums[3]);
    const F32 square = (moments.squares[0] + moments.squares[1]) + (moments.squares[2] + moments.squares[3]);
    const F32 difference = sum * (1 / added);
    deviations += square - sum * difference + difference * difference * (count * added / both);
    mean += difference * (added / both);
    count = both;
  });
  store_lanes(means + c, mean, lanes);
  store_lanes(squares + c, select(not_positive(deviations), F32{}, deviations), lanes);
}

// Output panel `panel` from its products, written past the caches where `streamed`; and of these outputs, per channel,
// mean and sum of squared deviations.
static void upsampled_output(
    const TransformedTiles& source, const UpsampledTiles& of, std::int64_t panel, const float* biases, float* out,
    std::int64_t channels, bool streamed, float* means, float* squares) {
  streamed = streamed && channels % width<float> == 0;
  for_each_register(
      channels, {panel, panel + 1}, 0, [&](std::int64_t c, std::int64_t place, auto lanes) {
        if (streamed) {
          upsampled_output_register<true>(source, of, biases, out, channels, means, squares, c, place, lanes);
        } else {
          upsampled_output_register<false>(source, of, biases, out, channels, means, squares, c, place, lanes);
        }
      });
#if DFAD_REGISTER_BYTES == 64
  if (streamed) _mm_sfence();
#endif
}

template <class Lanes>
DFAD_INLINE void upsampled_output_adjoint_register(
    const float* grad, const UpsampledTiles& of, std::int64_t channels, const TransformedTiles& target, std::int64_t c,
    std::int64_t place, Lanes lanes) {
  const std::int64_t across = tiles_across(of), out_height = 2 * of.height, out_width = 2 * of.width;
  for_each_row_of_tiles(of, [&](std::int64_t t, std::int64_t image, std::int64_t tile) {
    const float* rows[4];
    for (int k = 0; k < 4; ++k) {
      const std::int64_t y = 4 * t - 1 + k;
      const bool inside = y >= 0 && y < out_height;
      rows[k] = inside ? grad + (image * out_height + y) * out_width * channels + c : nullptr;
    }
    float* to = target.data + place + tile * panel_size;
    const auto read = [&](std::int64_t column, F32* values) {
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) {
        const bool inside = rows[k] != nullptr && column < out_width;
        values[k] = inside ? load_lanes(rows[k] + column * channels, lanes) : F32{};
      }
    };
    const auto write = [&](int column, const F32* values) {
      const auto row = [&](int product) { return to + (product * upsampled_sides + column) * target.component; };
      store(row(left1), values[0]);
      store(row(left0), values[1]);
      store(row(right1), values[2]);
      store(row(right0), values[3]);
      store(row(centre), (values[0] + values[1]) + (values[2] + values[3]));
    };
    F32 before[4] = {}, values[4], sums[4];
    for (std::int64_t s = 0; s < across; ++s) {
      read(4 * s, values);
      write(left0, values);
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) sums[k] = before[k] + values[k];
      read(4 * s + 1, values);
      write(right1, values);
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) sums[k] += values[k];
      read(4 * s + 2, values);
      write(right0, values);
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) sums[k] += values[k];
      write(centre, sums);
      read(4 * s + 3, before);
      write(left1, before);
      to += panel_size;
    }
  });
}

// The gradients of all products.
static void upsampled_output_adjoint(
    const float* grad, const UpsampledTiles& of, std::int64_t channels, const TransformedTiles& target) {
  const Range panels = {0, (channels + panel_size - 1) / panel_size};
  for_each_register(
      channels, panels, target.tiles * panel_size, [&](std::int64_t c, std::int64_t place, auto lanes) {
        upsampled_output_adjoint_register(grad, of, channels, target, c, place, lanes);
      });
}

template <class Lanes>
DFAD_INLINE void upsampled_input_adjoint_register(
    const BlockNorm& norm, const float* x, const TransformedTiles& source, const UpsampledTiles& of, float* grad,
    float* sums, float* products, std::int64_t c, std::int64_t place, Lanes lanes) {
  const F32 scale = load_lanes(norm.scale + c, lanes), shift = load_lanes(norm.shift + c, lanes);
  const F32 mean = load_lanes(norm.mean + c, lanes), rstd = load_lanes(norm.rstd + c, lanes);
  F32 sum = {}, product = {};
  const std::int64_t across = tiles_across(of), row_of_tiles = of.images * across * panel_size;
  for_each_row_of_tiles(of, [&](std::int64_t t, std::int64_t image, std::int64_t tile) {
    // The row of tiles before is there, if there is one.
    const float* const here = source.data + place + tile * panel_size + (of.begin > 0 ? row_of_tiles : 0);
    const bool has_centre = t < centre_rows(of);
    const auto component = [&](int row, int column, std::int64_t s) {
      return load(here + (row * upsampled_columns + column) * source.component + s * panel_size);
    };
    const auto put = [&](std::int64_t y, std::int64_t column, F32 value) {
      const std::int64_t at = ((image * of.height + y) * of.width + column) * norm.channels + c;
      const F32 pixel = load_lanes(x + at, lanes);
      const F32 g = select(not_positive(pixel * scale + shift), value * norm.slope, value);
      store_lanes(grad + at, g, lanes);
      sum += g;
      product += g * ((pixel - mean) * rstd);
    };
    const auto row = [&](std::int64_t y, const auto& of_column) {
      F32 left = of_column(0, 0);
      for (std::int64_t s = 0; s < across; ++s) {
        const F32 right = of_column(3, s);
        put(y, 2 * s, of_column(2, s) - right - left);
        if (2 * s + 1 >= of.width) break;
        left = of_column(1, s);
        if (s + 1 < across) left += of_column(0, s + 1);
        put(y, 2 * s + 1, right + left);
      }
    };
    if (t > 0) {
      row(2 * t - 1, [&](int column, std::int64_t s) {
        const float* const above = here - row_of_tiles + (2 * upsampled_columns + column) * source.component;
        return load(above + s * panel_size) + component(0, column, s);
      });
    }
    if (has_centre) {
      row(2 * t, [&](int column, std::int64_t s) {
        return component(1, column, s) - component(0, column, s) - component(2, column, s);
      });
    }
  });
  store_lanes(sums + c, load_lanes(sums + c, lanes) + sum, lanes);
  store_lanes(products + c, load_lanes(products + c, lanes) + product, lanes);
}

// From panel `panel` of the differences' gradients: the gradient of the batch norm's affine map, and added up per channel
// its sum and that of its products with the normalised x. Where `of` does not begin with the image, source begins one
// row of tiles before it.
static void upsampled_input_adjoint(
    const BlockNorm& norm, const float* x, const TransformedTiles& source, const UpsampledTiles& of,
    std::int64_t panel, float* grad, float* sums, float* products) {
  for_each_register(
      norm.channels, {panel, panel + 1}, 0, [&](std::int64_t c, std::int64_t place, auto lanes) {
        upsampled_input_adjoint_register(norm, x, source, of, grad, sums, products, c, place, lanes);
      });
}
