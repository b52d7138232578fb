// Channels in panels, and their matrix products, in the including tier's namespace and instruction set.

// One register of a panel: all lanes, known to the compiler, or those that are left of the channels, perhaps none.
struct AllLanes {};

DFAD_INLINE F32 load_lanes(const float* source, AllLanes) { return load(source); }
DFAD_INLINE F32 load_lanes(const float* source, Rest rest) {
  float padded[width<float>] = {};
  for (std::int64_t i = 0; i < rest.count; ++i) padded[i] = source[i];
  return load(padded);
}
DFAD_INLINE void store_lanes(float* target, F32 values, AllLanes) { store(target, values); }
DFAD_INLINE void store_lanes(float* target, F32 values, Rest rest) {
  float padded[width<float>];
  store(padded, values);
  for (std::int64_t i = 0; i < rest.count; ++i) target[i] = padded[i];
}

// Past the caches where all lanes are meant: a plain store would first read what it overwrites.
template <bool streamed>
DFAD_INLINE void put_lanes(float* target, F32 values, AllLanes) {
#if DFAD_REGISTER_BYTES == 64
  if constexpr (streamed) {
    _mm512_stream_ps(target, (__m512)values);
    return;
  }
#endif
  store(target, values);
}
template <bool streamed>
DFAD_INLINE void put_lanes(float* target, F32 values, Rest rest) {
  store_lanes(target, values, rest);
}

// Calls body(first channel, place in a panel's row, lanes meant) for each register of the panels.
template <class Body>
DFAD_INLINE void for_each_register(std::int64_t channels, Range panels, std::int64_t panel_stride, const Body& body) {
  for (std::int64_t panel = panels.begin; panel < panels.end; ++panel) {
    for (int k = 0; k < registers<float>; ++k) {
      const std::int64_t c = panel * panel_size + k * width<float>;
      const std::int64_t place = panel * panel_stride + k * width<float>;
      const std::int64_t left = channels - c;
      if (left >= width<float>) {
        body(c, place, AllLanes{});
      } else {
        body(c, place, Rest{left > 0 ? left : 0});
      }
    }
  }
}

// One element in all lanes, by a load and nothing else: registers are moved about where the products are computed.
DFAD_INLINE F32 broadcast(const float* source) {
#if DFAD_REGISTER_BYTES == 64
  return (F32)_mm512_set1_ps(*source);
#elif DFAD_REGISTER_BYTES == 32
  return (F32)_mm256_broadcast_ss(source);
#else
  return F32{*source, *source, *source, *source};
#endif
}

DFAD_INLINE F32 multiply_add(F32 a, F32 b, F32 c) {
#if DFAD_REGISTER_BYTES == 64
  return (F32)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif DFAD_REGISTER_BYTES == 32
  return (F32)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
  return a * b + c;
#endif
}

// Rows whose sums fill the registers, beside a row of b and an element of a.
#if DFAD_REGISTER_BYTES == 64
constexpr int product_rows = 14;
#elif DFAD_REGISTER_BYTES == 32
constexpr int product_rows = 3;
#else
constexpr int product_rows = 1;
#endif

// So much of b is used for all rows before the next: it stays in the first cache. Its products are summed apart and
// added as a whole, which keeps long sums exact.
constexpr std::int64_t product_depth = 4 * panel_size;

template <int rows, bool transposed>
static void multiply_rows(
    const float* a, std::int64_t panel, const float* b, float* c, std::int64_t depth, bool accumulate) {
  constexpr std::int64_t row_stride = transposed ? 1 : panel_size, step = transposed ? panel_size : 1;
  // What is added to at the end is far from the first cache.
  if (accumulate) {
    for (int i = 0; i < rows; ++i) {
      for (int k = 0; k < panel_size; k += 16) __builtin_prefetch(c + i * panel_size + k, 1);
    }
  }
  F32 sums[rows][registers<float>] = {};
  for (std::int64_t begin = 0; begin < depth; begin += panel_size) {
    const std::int64_t end = depth - begin < panel_size ? depth - begin : panel_size;
    const float* from = a;
#pragma GCC unroll 2
    for (std::int64_t p = 0; p < end; ++p) {
      F32 values[registers<float>];
#pragma GCC unroll 8
      for (int k = 0; k < registers<float>; ++k) values[k] = load(b + k * width<float>);
#pragma GCC unroll 16
      for (int i = 0; i < rows; ++i) {
        const F32 factor = broadcast(from + i * row_stride);
#pragma GCC unroll 8
        for (int k = 0; k < registers<float>; ++k) sums[i][k] = multiply_add(factor, values[k], sums[i][k]);
      }
      from += step;
      b += panel_size;
    }
    a += transposed ? panel_size * panel_size : panel;
  }
#pragma GCC unroll 16
  for (int i = 0; i < rows; ++i) {
#pragma GCC unroll 8
    for (int k = 0; k < registers<float>; ++k) {
      float* const target = c + i * panel_size + k * width<float>;
      store(target, accumulate ? load(target) + sums[i][k] : sums[i][k]);
    }
  }
}

// multiply_rows for a number of rows that is known when it runs.
template <bool transposed, int rows = product_rows>
DFAD_INLINE void multiply_some_rows(
    std::int64_t count, const float* a, std::int64_t panel, const float* b, float* c, std::int64_t depth,
    bool accumulate) {
  if constexpr (rows > 0) {
    if (count == rows) {
      multiply_rows<rows, transposed>(a, panel, b, c, depth, accumulate);
    } else {
      multiply_some_rows<transposed, rows - 1>(count, a, panel, b, c, depth, accumulate);
    }
  }
}

static void multiply_panels(const PanelProduct& product) {
  // Rows of a transposed panel end with the panel.
  const std::int64_t whole = product.transposed ? panel_size : product.rows;
  for (std::int64_t p = 0; p < product.depth; p += product_depth) {
    const std::int64_t depth = product.depth - p < product_depth ? product.depth - p : product_depth;
    const bool accumulate = product.accumulate || p > 0;
    const float* const b = product.b + p * panel_size;
    for (std::int64_t first = 0; first < product.rows; first += whole) {
      const std::int64_t rows = product.rows - first < whole ? product.rows - first : whole;
      // As even as can be: two times 13 rows are faster than 14 and 12.
      std::int64_t groups = (rows + product_rows - 1) / product_rows;
      for (std::int64_t i = 0; i < rows; --groups) {
        const std::int64_t count = (rows - i + groups - 1) / groups;
        float* const c = product.c + (first + i) * panel_size;
        if (product.transposed) {
          const float* const a = product.a + first / panel_size * product.panel + p * panel_size + i;
          multiply_some_rows<true>(count, a, product.panel, b, c, depth, accumulate);
        } else {
          const float* const a = product.a + p / panel_size * product.panel + i * panel_size;
          multiply_some_rows<false>(count, a, product.panel, b, c, depth, accumulate);
        }
        i += count;
      }
    }
  }
}
