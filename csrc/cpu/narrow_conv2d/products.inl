// What the direct and the tiled convolution of few channels share, in the including tier's namespace and instruction set:
// pixels lie in blocks of 8 channels, 8 floats apart, and one channel of each of them is broadcast against a row of
// weights. The sums of many pixels, of one register or two of output channels each, stay in registers.

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

// Into the second cache, while something else is computed: the processor's own prefetching does not see what comes next.
// Past the end of an array it does nothing.
template <bool written>
DFAD_INLINE void prefetch_floats(const float* x, std::int64_t count) {
  constexpr std::int64_t line = 16;
  for (std::int64_t i = 0; i < count; i += line) __builtin_prefetch(x + i, written ? 1 : 0, 2);
}

// Adds the products of `channels` channels of pixels * rows pixels with the rows of their weights.
template <class Lanes, int pixels, int rows>
DFAD_INLINE void add_products(
    const float* source, std::int64_t row, std::int64_t block, std::int64_t channels, const float* weights,
    std::int64_t lanes, typename Lanes::Values (&sums)[pixels * rows][Lanes::registers]) {
  using V = typename Lanes::Values;
  const auto add = [&](std::int64_t c) {
    V values[Lanes::registers];
#pragma GCC unroll 2
    for (int k = 0; k < Lanes::registers; ++k) values[k] = load_as<V>(weights + k * Lanes::width);
#pragma GCC unroll 32
    for (int i = 0; i < pixels * rows; ++i) {
      const V factor = broadcast_as<V>(source + i / pixels * row + i % pixels * packed_channels + c);
#pragma GCC unroll 2
      for (int k = 0; k < Lanes::registers; ++k) sums[i][k] = multiply_add(factor, values[k], sums[i][k]);
    }
    weights += lanes;
  };
  for (; channels >= packed_channels; channels -= packed_channels) {
#pragma GCC unroll 8
    for (int c = 0; c < packed_channels; ++c) add(c);
    source += block;
  }
  for (std::int64_t c = 0; c < channels; ++c) add(c);
}

// What comes after the sums of several pixels, for the channels from `first` on. inside(i) says whether the pixel is one
// of the image, and place(i) how far its residual lies.
template <class V, int count, class Inside, class Place>
DFAD_INLINE void finish(
    const DirectEnd& end, std::int64_t first, std::int64_t meant, const Inside& inside, const Place& place,
    V (&values)[count]) {
  if (end.bias != nullptr) {
    const V bias = load_as<V>(end.bias + first);
#pragma GCC unroll 32
    for (int i = 0; i < count; ++i) values[i] += bias;
  }
  if (end.residual != nullptr) {
#pragma GCC unroll 32
    for (int i = 0; i < count; ++i) {
      if (inside(i)) values[i] += load_values<V>(end.residual + place(i) + first, meant);
    }
  }
  if (end.slope != 1) {
#pragma GCC unroll 32
    for (int i = 0; i < count; ++i) {
      // 0 times an infinity would be NaN.
      const V below = end.slope == 0 ? V{} : values[i] * end.slope;
      values[i] = values[i] <= 0 ? below : values[i];
    }
  }
}

// Adds them to the sums of the channels from `first` on.
template <class V, int count, class Inside>
DFAD_INLINE void add_statistics(
    const DirectEnd& end, std::int64_t lanes, std::int64_t first, bool begins, const Inside& inside,
    const V (&values)[count]) {
  float *const shift = end.shifted_sums + first, *const sum = shift + lanes, *const square = sum + lanes;
  if (begins) std::memcpy(shift, &values[0], sizeof(V));
  const V middle = load_as<V>(shift);
  V total = load_as<V>(sum), squares = load_as<V>(square);
#pragma GCC unroll 32
  for (int i = 0; i < count; ++i) {
    if (!inside(i)) continue;
    const V difference = values[i] - middle;
    total += difference;
    squares = multiply_add(difference, difference, squares);
  }
  std::memcpy(sum, &total, sizeof total);
  std::memcpy(square, &squares, sizeof squares);
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
