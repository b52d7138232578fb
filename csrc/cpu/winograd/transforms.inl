// Winograd's minimal filtering, in the including tier's namespace and instruction set. AVX2 and AVX-512 give the same
// bits; the base tier, which has no fused multiply-add, rounds products apart.

// One side of each transform; the other side is the same. Points 0, 1, -1 and infinity; 0, a, -a, b, -b and infinity.
template <int tile>
struct Winograd;

template <>
struct Winograd<2> {
  struct Input {
    static constexpr int in = 4, out = 4;
    DFAD_INLINE_MEMBER static void apply(const F32* x, F32* y) {
      y[0] = x[0] - x[2];
      y[1] = x[1] + x[2];
      y[2] = x[2] - x[1];
      y[3] = x[1] - x[3];
    }
  };
  struct InputAdjoint {
    static constexpr int in = 4, out = 4;
    DFAD_INLINE_MEMBER static void apply(const F32* x, F32* y) {
      y[0] = x[0];
      y[1] = x[1] - x[2] + x[3];
      y[2] = x[1] + x[2] - x[0];
      y[3] = -x[3];
    }
  };
  struct Output {
    static constexpr int in = 4, out = 2;
    DFAD_INLINE_MEMBER static void apply(const F32* x, F32* y) {
      y[0] = x[0] + x[1] + x[2];
      y[1] = x[1] - x[2] - x[3];
    }
  };
  struct OutputAdjoint {
    static constexpr int in = 2, out = 4;
    DFAD_INLINE_MEMBER static void apply(const F32* x, F32* y) {
      y[0] = x[0];
      y[1] = x[0] + x[1];
      y[2] = x[0] - x[1];
      y[3] = -x[1];
    }
  };
  struct Filter {
    static constexpr int in = 3, out = 4;
    DFAD_INLINE_MEMBER static void apply(const F32* x, F32* y) {
      const F32 even = 0.5f * (x[0] + x[2]), odd = 0.5f * x[1];
      y[0] = x[0];
      y[1] = even + odd;
      y[2] = even - odd;
      y[3] = x[2];
    }
  };
  struct FilterAdjoint {
    static constexpr int in = 4, out = 3;
    DFAD_INLINE_MEMBER static void apply(const F32* x, F32* y) {
      const F32 even = 0.5f * (x[1] + x[2]);
      y[0] = x[0] + even;
      y[1] = 0.5f * (x[1] - x[2]);
      y[2] = even + x[3];
    }
  };
};

// With the usual points 1 and 2 in place of 3/4 and 3/2 sizes spread wider, and the largest error is six times this.
template <>
struct Winograd<4> {
  static constexpr float a = 0.75f, b = 1.5f, a2 = a * a, b2 = b * b;
  // One over what the points divide filters by.
  static constexpr float by0 = 1 / (a2 * b2), by_a = 0.5f / (a2 * (a2 - b2)), by_b = 0.5f / (b2 * (b2 - a2));

  struct Input {
    static constexpr int in = 6, out = 6;
    DFAD_INLINE_MEMBER static void apply(const F32* x, F32* y) {
      const F32 even_a = x[4] - b2 * x[2], odd_a = a * (x[3] - b2 * x[1]);
      const F32 even_b = x[4] - a2 * x[2], odd_b = b * (x[3] - a2 * x[1]);
      y[0] = a2 * b2 * x[0] - (a2 + b2) * x[2] + x[4];
      y[1] = even_a + odd_a;
      y[2] = even_a - odd_a;
      y[3] = even_b + odd_b;
      y[4] = even_b - odd_b;
      y[5] = a2 * b2 * x[1] - (a2 + b2) * x[3] + x[5];
    }
  };
  struct InputAdjoint {
    static constexpr int in = 6, out = 6;
    DFAD_INLINE_MEMBER static void apply(const F32* x, F32* y) {
      const F32 sum_a = x[1] + x[2], difference_a = a * (x[1] - x[2]);
      const F32 sum_b = x[3] + x[4], difference_b = b * (x[3] - x[4]);
      y[0] = a2 * b2 * x[0];
      y[1] = a2 * b2 * x[5] - b2 * difference_a - a2 * difference_b;
      y[2] = -(a2 + b2) * x[0] - b2 * sum_a - a2 * sum_b;
      y[3] = difference_a + difference_b - (a2 + b2) * x[5];
      y[4] = x[0] + sum_a + sum_b;
      y[5] = x[5];
    }
  };
  struct Output {
    static constexpr int in = 6, out = 4;
    DFAD_INLINE_MEMBER static void apply(const F32* x, F32* y) {
      const F32 sum_a = x[1] + x[2], difference_a = a * (x[1] - x[2]);
      const F32 sum_b = x[3] + x[4], difference_b = b * (x[3] - x[4]);
      y[0] = x[0] + sum_a + sum_b;
      y[1] = difference_a + difference_b;
      y[2] = a2 * sum_a + b2 * sum_b;
      y[3] = a2 * difference_a + b2 * difference_b + x[5];
    }
  };
  struct OutputAdjoint {
    static constexpr int in = 4, out = 6;
    DFAD_INLINE_MEMBER static void apply(const F32* x, F32* y) {
      const F32 even_a = x[0] + a2 * x[2], odd_a = a * (x[1] + a2 * x[3]);
      const F32 even_b = x[0] + b2 * x[2], odd_b = b * (x[1] + b2 * x[3]);
      y[0] = x[0];
      y[1] = even_a + odd_a;
      y[2] = even_a - odd_a;
      y[3] = even_b + odd_b;
      y[4] = even_b - odd_b;
      y[5] = x[3];
    }
  };
  struct Filter {
    static constexpr int in = 3, out = 6;
    DFAD_INLINE_MEMBER static void apply(const F32* x, F32* y) {
      const F32 even_a = by_a * (x[0] + a2 * x[2]), odd_a = by_a * a * x[1];
      const F32 even_b = by_b * (x[0] + b2 * x[2]), odd_b = by_b * b * x[1];
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
    DFAD_INLINE_MEMBER static void apply(const F32* x, F32* y) {
      const F32 sum_a = by_a * (x[1] + x[2]), sum_b = by_b * (x[3] + x[4]);
      y[0] = by0 * x[0] + sum_a + sum_b;
      y[1] = by_a * a * (x[1] - x[2]) + by_b * b * (x[3] - x[4]);
      y[2] = a2 * sum_a + b2 * sum_b + x[5];
    }
  };
};

// Columns, then rows. read(i, j) gives the input, write(i, j, values) takes the output.
template <class Side, class Read, class Write>
DFAD_INLINE void both_sides(const Read& read, const Write& write) {
  F32 half[Side::out][Side::in];
#pragma GCC unroll 6
  for (int j = 0; j < Side::in; ++j) {
    F32 x[Side::in], y[Side::out];
#pragma GCC unroll 6
    for (int i = 0; i < Side::in; ++i) x[i] = read(i, j);
    Side::apply(x, y);
#pragma GCC unroll 6
    for (int i = 0; i < Side::out; ++i) half[i][j] = y[i];
  }
#pragma GCC unroll 6
  for (int i = 0; i < Side::out; ++i) {
    F32 y[Side::out];
    Side::apply(half[i], y);
#pragma GCC unroll 6
    for (int j = 0; j < Side::out; ++j) write(i, j, y[j]);
  }
}
