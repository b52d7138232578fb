// Direct convolutions of images of few channels, in the including tier's namespace and instruction set.
//
// The sums of a tile of pixels, of one or two registers of output channels each, stay in registers: an input channel of
// each pixel is broadcast against a row of weights. The images are first copied into blocks of 8 channels, with zeros
// around them, so that pixels are 8 floats apart whatever channels, stride and border there are.

constexpr std::int64_t packed_channels = 8;

// Output channels are taken in pieces of so many registers. On AVX-512 the last 8 take half a register.
template <class V, int count>
struct OutputLanes {
  using Values = V;
  static constexpr int registers = count;
  static constexpr int width = sizeof(V) / sizeof(float);
  static constexpr int lanes = width * count;
};

#if DFAD_REGISTER_BYTES == 64
typedef float F32x8 __attribute__((vector_size(32)));

DFAD_INLINE F32x8 multiply_add(F32x8 a, F32x8 b, F32x8 c) {
  return (F32x8)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}
template <class V>
DFAD_INLINE V broadcast_as(const float* source) {
  if constexpr (sizeof(V) == sizeof(F32)) {
    return broadcast(source);
  } else {
    return (V)_mm256_set1_ps(*source);
  }
}

using WidestLanes = OutputLanes<F32, 2>;
using WideLanes = OutputLanes<F32, 1>;
using NarrowLanes = OutputLanes<F32x8, 1>;
constexpr int tile_registers = 28;
constexpr int gradient_channels = 8;
#else
template <class V>
DFAD_INLINE V broadcast_as(const float* source) {
  return broadcast(source);
}

#if DFAD_REGISTER_BYTES == 32
using WideLanes = OutputLanes<F32, 2>;
using NarrowLanes = OutputLanes<F32, 1>;
#else
using NarrowLanes = OutputLanes<F32, 2>;
#endif
constexpr int tile_registers = 12;
constexpr int gradient_channels = 4;
#endif

// Tiles are of two rows. So few pixels side by side have places that fit the short form of an address.
template <class Lanes>
constexpr int tile_pixels = tile_registers / Lanes::registers / 2;

template <class V>
DFAD_INLINE void store_values(float* target, V values, std::int64_t meant) {
  constexpr std::int64_t width = sizeof(V) / sizeof(float);
  if (meant >= width) {
    std::memcpy(target, &values, sizeof values);
  } else {
    float padded[width];
    std::memcpy(padded, &values, sizeof values);
    for (std::int64_t i = 0; i < meant; ++i) target[i] = padded[i];
  }
}

template <class V>
DFAD_INLINE V load_values(const float* source, std::int64_t meant) {
  constexpr std::int64_t width = sizeof(V) / sizeof(float);
  if (meant >= width) return load_as<V>(source);
  float padded[width] = {};
  for (std::int64_t i = 0; i < meant; ++i) padded[i] = source[i];
  return load_as<V>(padded);
}

// Of output pixels [column, column + pixels) of rows `row` to row + rows, channels `lane` and on.
template <class Lanes, int pixels, int rows>
static void direct_tile(
    const DirectConvolution& of, const DirectEnd& end, std::int64_t row, std::int64_t column, std::int64_t lane) {
  using V = typename Lanes::Values;
  constexpr int registers_ = Lanes::registers, width_ = Lanes::width, count = pixels * rows;
  V sums[count][registers_] = {};
  for (std::int64_t t = 0; t < of.taps; ++t) {
    const float* source = of.source + row * of.row + column * packed_channels + of.tap[t].source;
    const float* weights = of.weights + of.tap[t].weights + lane;
    const auto add = [&](std::int64_t c) {
      V values[registers_];
#pragma GCC unroll 2
      for (int k = 0; k < registers_; ++k) values[k] = load_as<V>(weights + k * width_);
#pragma GCC unroll 32
      for (int i = 0; i < count; ++i) {
        const V factor = broadcast_as<V>(source + i / pixels * of.row + i % pixels * packed_channels + c);
#pragma GCC unroll 2
        for (int k = 0; k < registers_; ++k) sums[i][k] = multiply_add(factor, values[k], sums[i][k]);
      }
      weights += of.lanes;
    };
    std::int64_t left = of.channels;
    for (; left >= packed_channels; left -= packed_channels) {
#pragma GCC unroll 8
      for (int c = 0; c < packed_channels; ++c) add(c);
      source += of.block;
    }
    for (std::int64_t c = 0; c < left; ++c) add(c);
  }
#pragma GCC unroll 2
  for (int k = 0; k < registers_; ++k) {
    const std::int64_t first = lane + k * width_, meant = of.out_channels - first;
    if (meant <= 0) continue;
    if (end.bias != nullptr) {
      const V bias = load_as<V>(end.bias + first);
#pragma GCC unroll 32
      for (int i = 0; i < count; ++i) sums[i][k] += bias;
    }
    if (end.residual != nullptr) {
      const float* const from = end.residual + row * end.residual_row + column * end.residual_pixel + first;
#pragma GCC unroll 32
      for (int i = 0; i < count; ++i) {
        sums[i][k] += load_values<V>(from + i / pixels * end.residual_row + i % pixels * end.residual_pixel, meant);
      }
    }
    if (end.slope != 1) {
      // 0 times an infinity would be NaN.
#pragma GCC unroll 32
      for (int i = 0; i < count; ++i) {
        const V below = end.slope == 0 ? V{} : sums[i][k] * end.slope;
        sums[i][k] = sums[i][k] <= 0 ? below : sums[i][k];
      }
    }
    float* const to = of.out + row * of.out_row + column * of.out_pixel + first;
#pragma GCC unroll 32
    for (int i = 0; i < count; ++i) {
      store_values<V>(to + i / pixels * of.out_row + i % pixels * of.out_pixel, sums[i][k], meant);
    }
    if (end.shifted_sums != nullptr) {
      float *const shift = end.shifted_sums + first, *const sum = shift + of.lanes, *const square = sum + of.lanes;
      if (row == 0 && column == 0) std::memcpy(shift, &sums[0][k], sizeof(V));
      const V middle = load_as<V>(shift);
      V total = load_as<V>(sum), squares = load_as<V>(square);
#pragma GCC unroll 32
      for (int i = 0; i < count; ++i) {
        const V difference = sums[i][k] - middle;
        total += difference;
        squares = multiply_add(difference, difference, squares);
      }
      std::memcpy(sum, &total, sizeof total);
      std::memcpy(square, &squares, sizeof squares);
    }
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
  std::int64_t row = 0;
  for (; row + 2 <= of.rows; row += 2) direct_row<Lanes, 2>(of, end, row, lane);
  if (row < of.rows) direct_row<Lanes, 1>(of, end, row, lane);
}

// Calls body(a value of the lanes' type, first channel) for pieces that cover `lanes` channels.
template <class Body>
DFAD_INLINE void for_each_piece(std::int64_t lanes, bool widest, const Body& body) {
  std::int64_t lane = 0;
#if DFAD_REGISTER_BYTES == 64
  for (; widest && lane + WidestLanes::lanes <= lanes; lane += WidestLanes::lanes) body(WidestLanes{}, lane);
#endif
#if DFAD_REGISTER_BYTES >= 32
  for (; lane + WideLanes::lanes <= lanes; lane += WideLanes::lanes) body(WideLanes{}, lane);
#endif
  for (; lane < lanes; lane += NarrowLanes::lanes) body(NarrowLanes{}, lane);
}

static void direct_convolve(const DirectConvolution& of, const DirectEnd& end) {
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
  for (std::int64_t r = 0; r < of.rows; ++r) {
    const float* grad = grads;
    std::int64_t place = 0;
    for (std::int64_t p = 0; p < of.columns; ++p) {
      const V values = load_as<V>(grad);
#pragma GCC unroll 4
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
#pragma GCC unroll 4
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

static void direct_weight_gradient(const DirectWeightGradient& of) {
  for_each_piece(of.lanes, false, [&](auto lanes, std::int64_t first) {
    using Lanes = decltype(lanes);
    for (std::int64_t lane = first; lane < first + Lanes::lanes; lane += Lanes::width) {
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
