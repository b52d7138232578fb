// Direct convolutions of images of few channels, in the including tier's namespace and instruction set.
//
// The images are first copied into blocks of 8 channels, with zeros around them, so that pixels are 8 floats apart
// whatever channels, stride and border there are.

// For output pixels [column, column + pixels) of rows `row` to row + rows, channels `lane` and on.
template <class Lanes, int pixels, int rows>
static void direct_tile(
    const DirectConvolution& of, const DirectEnd& end, std::int64_t row, std::int64_t column, std::int64_t lane) {
  using V = typename Lanes::Values;
  constexpr int count = pixels * rows;
  V sums[count][Lanes::registers] = {};
  for (std::int64_t t = 0; t < of.taps; ++t) {
    const float* const source = of.source + row * of.row + column * packed_channels + of.tap[t].source;
    const float* const weights = of.weights + of.tap[t].weights + lane;
    add_products<Lanes, pixels, rows>(source, of.row, of.block, of.channels, weights, of.lanes, sums);
  }
  const auto inside = [](int) { return true; };
  const auto place = [&](int i) {
    return (row + i / pixels) * end.residual_row + (column + i % pixels) * end.residual_pixel;
  };
#pragma GCC unroll 2
  for (int k = 0; k < Lanes::registers; ++k) {
    const std::int64_t first = lane + k * Lanes::width, meant = of.out_channels - first;
    if (meant <= 0) continue;
    V values[count];
#pragma GCC unroll 32
    for (int i = 0; i < count; ++i) values[i] = sums[i][k];
    finish(end, first, meant, inside, place, values);
    float* const to = of.out + row * of.out_row + column * of.out_pixel + first;
#pragma GCC unroll 32
    for (int i = 0; i < count; ++i) {
      store_values<V>(to + i / pixels * of.out_row + i % pixels * of.out_pixel, values[i], meant);
    }
    if (end.shifted_sums != nullptr) add_statistics(end, of.lanes, first, row == 0 && column == 0, inside, values);
  }
}

// direct_tile for a number of pixels that is known when it runs.
template <class Lanes, int rows, int pixels>
DFAD_INLINE void direct_some_pixels(
    std::int64_t count, const DirectConvolution& of, const DirectEnd& end, std::int64_t row, std::int64_t column,
    std::int64_t lane) {
  if constexpr (pixels > 0) {
    if (count == pixels) {
      direct_tile<Lanes, pixels, rows>(of, end, row, column, lane);
    } else {
      direct_some_pixels<Lanes, rows, pixels - 1>(count, of, end, row, column, lane);
    }
  }
}

template <class Lanes, int rows>
DFAD_INLINE void direct_row(
    const DirectConvolution& of, const DirectEnd& end, std::int64_t row, std::int64_t lane) {
  constexpr int most = tile_pixels<Lanes>;
  // As even as can be: 11, 11 and 10 pixels are faster than 14, 14 and 4.
  std::int64_t tiles = (of.columns + most - 1) / most;
  for (std::int64_t column = 0; column < of.columns; --tiles) {
    const std::int64_t count = (of.columns - column + tiles - 1) / tiles;
    direct_some_pixels<Lanes, rows, most>(count, of, end, row, column, lane);
    column += count;
  }
}

template <class Lanes>
static void direct_rows(const DirectConvolution& of, const DirectEnd& end, std::int64_t lane) {
  const auto prefetch_row = [&](std::int64_t row) {
    if (lane == 0) prefetch_floats<true>(of.out + (of.rows + row) * of.out_row, of.columns * of.out_pixel);
  };
  std::int64_t row = 0;
  for (; row + 2 <= of.rows; row += 2) {
    prefetch_row(row);
    prefetch_row(row + 1);
    direct_row<Lanes, 2>(of, end, row, lane);
  }
  if (row == of.rows) return;
  prefetch_row(row);
  direct_row<Lanes, 1>(of, end, row, lane);
}

// To so few channels that the registers would be nearly empty: input channels fill them, and are added up at the end.
constexpr int few_channels = 3;
constexpr std::int64_t few_products = 9 * 64;

// Pixels [column, column + pixels) of a row; `weights` are [out][tap][in].
template <int out, int pixels>
DFAD_INLINE void direct_few_pixels(
    const DirectConvolution& of, const DirectEnd& end, const float* weights, std::int64_t row, std::int64_t column) {
  using V = typename NarrowLanes::Values;
  constexpr int width_ = NarrowLanes::width;
  V sums[pixels][out] = {};
  for (std::int64_t t = 0; t < of.taps; ++t) {
    const float* const source = of.source + row * of.row + column * packed_channels + of.tap[t].source;
    for (std::int64_t c = 0; c < of.channels; c += width_) {
      const float* const from = source + c / packed_channels * of.block + c % packed_channels;
      V factors[out];
#pragma GCC unroll 4
      for (int o = 0; o < out; ++o) factors[o] = load_as<V>(weights + (o * of.taps + t) * of.channels + c);
#pragma GCC unroll 4
      for (int p = 0; p < pixels; ++p) {
        const V values = load_as<V>(from + p * packed_channels);
#pragma GCC unroll 4
        for (int o = 0; o < out; ++o) sums[p][o] = multiply_add(values, factors[o], sums[p][o]);
      }
    }
  }
  for (int o = 0; o < out; ++o) {
    float values[pixels];
    for (int p = 0; p < pixels; ++p) {
      float parts[width_];
      std::memcpy(parts, &sums[p][o], sizeof parts);
      for (int half = width_ / 2; half > 0; half /= 2) {
        for (int i = 0; i < half; ++i) parts[i] += parts[i + half];
      }
      values[p] = parts[0];
    }
    finish(
        end, o, 1, [](int) { return true; },
        [&](int p) { return row * end.residual_row + (column + p) * end.residual_pixel; }, values);
    for (int p = 0; p < pixels; ++p) of.out[row * of.out_row + (column + p) * of.out_pixel + o] = values[p];
  }
}

template <int out>
static void direct_few(const DirectConvolution& of, const DirectEnd& end) {
  constexpr int most = 4;
  float weights[out * few_products];
  for (int o = 0; o < out; ++o) {
    for (std::int64_t t = 0; t < of.taps; ++t) {
      for (std::int64_t c = 0; c < of.channels; ++c) {
        weights[(o * of.taps + t) * of.channels + c] = of.weights[of.tap[t].weights + c * of.lanes + o];
      }
    }
  }
  for (std::int64_t row = 0; row < of.rows; ++row) {
    std::int64_t column = 0;
    for (; column + most <= of.columns; column += most) direct_few_pixels<out, most>(of, end, weights, row, column);
    for (; column < of.columns; ++column) direct_few_pixels<out, 1>(of, end, weights, row, column);
  }
}

static void direct_convolve(const DirectConvolution& of, const DirectEnd& end) {
  // What lies beside the channels of a block that is not full is no number.
  const bool few = of.channels % packed_channels == 0 && of.taps * of.channels <= few_products;
  if (few && of.out_channels <= few_channels && end.shifted_sums == nullptr) {
    switch (of.out_channels) {
      case 1: return direct_few<1>(of, end);
      case 2: return direct_few<2>(of, end);
      default: return direct_few<3>(of, end);
    }
  }
  for_each_piece(of.lanes, true, [&](auto lanes, std::int64_t lane) { direct_rows<decltype(lanes)>(of, end, lane); });
}

template <int channels>
DFAD_INLINE void pack_pixels(const float* source, std::int64_t step, std::int64_t count, float* target) {
  for (std::int64_t p = 0; p < count; ++p) {
    std::memcpy(target, source, channels * sizeof(float));
    target += packed_channels;
    source += step;
  }
}

template <int channels = packed_channels>
DFAD_INLINE void pack_some_channels(
    std::int64_t count, const float* source, std::int64_t step, std::int64_t pixels, float* target) {
  if constexpr (channels > 0) {
    if (count >= channels) {
      pack_pixels<channels>(source, step, pixels, target);
    } else {
      pack_some_channels<channels - 1>(count, source, step, pixels, target);
    }
  }
}

DFAD_INLINE void clear_pixels(float* target, std::int64_t count) {
  for (std::int64_t i = 0; i < count * packed_channels; ++i) target[i] = 0;
}

// One phase of one row of an image; beyond the image, without `from`, zeros.
static void pack_row(
    const Images& images, const PackedRows& to, const float* from, std::int64_t first, float* target) {
  // Pixels [begin, end) lie inside the image.
  const std::int64_t before = first < 0 ? (-first + to.step - 1) / to.step : 0;
  const std::int64_t inside = images.width - first + to.step - 1;
  const std::int64_t until = inside > 0 ? inside / to.step : 0;
  const std::int64_t end = from == nullptr ? 0 : until < to.pixels ? until : to.pixels;
  const std::int64_t begin = before < end ? before : end, step = to.step * images.pixel;
  for (std::int64_t c = 0; c < images.channels; c += packed_channels) {
    clear_pixels(target, begin);
    if (begin < end) {
      const float* const source = from + (first + begin * to.step) * images.pixel + c;
      pack_some_channels(images.channels - c, source, step, end - begin, target + begin * packed_channels);
    }
    clear_pixels(target + end * packed_channels, to.pixels - end);
    target += to.pixels * packed_channels;
  }
}

static void direct_pack(const Images& images, std::int64_t image, const PackedRows& to) {
  const std::int64_t blocks = (images.channels + packed_channels - 1) / packed_channels;
  float* target = to.data;
  for (std::int64_t r = 0; r < to.rows; ++r) {
    const std::int64_t y = to.row + r * to.row_step;
    const bool inside = y >= 0 && y < images.height;
    const float* const from = inside ? images.data + image * images.image + y * images.row : nullptr;
    if (inside) prefetch_floats<false>(from + to.rows * to.row_step * images.row, images.width * images.pixel);
    for (std::int64_t phase = 0; phase < to.phases; ++phase) {
      pack_row(images, to, from, to.columns[phase], target);
      target += blocks * to.pixels * packed_channels;
    }
  }
}

// Adds to the gradient of the weights of `taps` taps, from the one at `tap` on, and of `channels` input channels.
template <class V, int channels, int taps>
static void direct_weights(
    const DirectWeightGradient& of, std::int64_t tap, std::int64_t block, std::int64_t channel, std::int64_t lane) {
  V sums[taps][channels] = {};
  const float* sources[taps];
  for (int t = 0; t < taps; ++t) sources[t] = of.source + of.tap[tap + t].source + block * of.block + channel;
  const float* grads = of.grads + lane;
  const bool begins = tap == 0 && block == 0 && channel == 0 && lane == 0;
  for (std::int64_t r = 0; r < of.rows; ++r) {
    const float* grad = grads;
    std::int64_t place = 0;
    if (begins) prefetch_floats<false>(grad + of.rows * of.grad_row, of.columns * of.grad_pixel);
    for (std::int64_t p = 0; p < of.columns; ++p) {
      const V values = load_as<V>(grad);
#pragma GCC unroll 9
      for (int t = 0; t < taps; ++t) {
#pragma GCC unroll 8
        for (int c = 0; c < channels; ++c) {
          sums[t][c] = multiply_add(broadcast_as<V>(sources[t] + place + c), values, sums[t][c]);
        }
      }
      grad += of.grad_pixel;
      place += packed_channels;
    }
    grads += of.grad_row;
    for (int t = 0; t < taps; ++t) sources[t] += of.row;
  }
#pragma GCC unroll 9
  for (int t = 0; t < taps; ++t) {
    float* to = of.sums + of.tap[tap + t].weights + (block * packed_channels + channel) * of.lanes + lane;
#pragma GCC unroll 8
    for (int c = 0; c < channels; ++c) {
      const V total = load_as<V>(to) + sums[t][c];
      std::memcpy(to, &total, sizeof total);
      to += of.lanes;
    }
  }
}

// direct_weights for a number of channels that is known when it runs.
template <class V, int taps, int channels = gradient_channels>
DFAD_INLINE void direct_some_weights(
    std::int64_t count, const DirectWeightGradient& of, std::int64_t tap, std::int64_t block, std::int64_t channel,
    std::int64_t lane) {
  if constexpr (channels > 0) {
    if (count == channels) {
      direct_weights<V, channels, taps>(of, tap, block, channel, lane);
    } else {
      direct_some_weights<V, taps, channels - 1>(count, of, tap, block, channel, lane);
    }
  }
}

// With so few channels all nine taps fit the registers.
constexpr int channels_of_nine = tile_registers / 9;

static void direct_weight_gradient(const DirectWeightGradient& of) {
  for_each_piece(of.lanes, false, [&](auto lanes, std::int64_t first) {
    using Lanes = decltype(lanes);
    for (std::int64_t lane = first; lane < first + Lanes::lanes; lane += Lanes::width) {
      if (of.taps == 9 && of.channels <= channels_of_nine) {
        direct_some_weights<typename Lanes::Values, 9, channels_of_nine>(of.channels, of, 0, 0, 0, lane);
        continue;
      }
      for (std::int64_t c = 0; c < of.channels; c += gradient_channels) {
        const std::int64_t left = of.channels - c, count = left < gradient_channels ? left : gradient_channels;
        const std::int64_t block = c / packed_channels, channel = c % packed_channels;
        for (std::int64_t tap = 0; tap < of.taps; tap += 3) {
          if (of.taps == 1) {
            direct_some_weights<typename Lanes::Values, 1>(count, of, tap, block, channel, lane);
          } else {
            direct_some_weights<typename Lanes::Values, 3>(count, of, tap, block, channel, lane);
          }
        }
      }
    }
  });
}

// The gradient before an activation of this result.
static void direct_cut(
    const float* grad, const float* result, float slope, std::int64_t count, float* out) {
  if (slope == 0) {
#pragma omp simd
    for (std::int64_t i = 0; i < count; ++i) out[i] = result[i] <= 0 ? 0.0f : grad[i];
  } else {
#pragma omp simd
    for (std::int64_t i = 0; i < count; ++i) out[i] = result[i] > 0 ? grad[i] : slope * grad[i];
  }
}
