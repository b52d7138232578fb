// Groups of lanes, in the including tier's namespace and instruction set: 128 bytes of the compute type, in as many
// registers as the tier needs. The same lanes in every tier, so that all tiers add in the same order.

#define DFAD_INLINE static inline __attribute__((always_inline))
#define DFAD_INLINE_MEMBER inline __attribute__((always_inline))

typedef float F32 __attribute__((vector_size(DFAD_REGISTER_BYTES)));
typedef double F64 __attribute__((vector_size(DFAD_REGISTER_BYTES)));
typedef std::int32_t I32 __attribute__((vector_size(DFAD_REGISTER_BYTES)));
typedef std::uint32_t U32 __attribute__((vector_size(DFAD_REGISTER_BYTES)));
typedef std::int64_t I64 __attribute__((vector_size(DFAD_REGISTER_BYTES)));
typedef std::uint16_t U16 __attribute__((vector_size(DFAD_REGISTER_BYTES / 2)));

template <class A>
struct Registers;
template <>
struct Registers<float> {
  using Values = F32;
  using Mask = I32;
};
template <>
struct Registers<double> {
  using Values = F64;
  using Mask = I64;
};

template <class A>
constexpr std::int64_t lanes = 128 / sizeof(A);
template <class A>
constexpr int width = DFAD_REGISTER_BYTES / sizeof(A);
template <class A>
constexpr int registers = 128 / DFAD_REGISTER_BYTES;

template <class A>
struct Group {
  typename Registers<A>::Values part[registers<A>];
};
template <class A>
struct Masks {
  typename Registers<A>::Mask part[registers<A>];
};

template <class V, class T>
DFAD_INLINE V load_as(const T* source) {
  V values;
  std::memcpy(&values, source, sizeof values);
  return values;
}

DFAD_INLINE F32 load(const float* source) { return load_as<F32>(source); }
DFAD_INLINE F64 load(const double* source) { return load_as<F64>(source); }

DFAD_INLINE F32 load(const BF16* source) {
  return (F32)(__builtin_convertvector(load_as<U16>(source), U32) << 16);
}

DFAD_INLINE void store(float* target, F32 values) { std::memcpy(target, &values, sizeof values); }
DFAD_INLINE void store(double* target, F64 values) { std::memcpy(target, &values, sizeof values); }

// As from_float<BF16>.
DFAD_INLINE void store(BF16* target, F32 values) {
  const U32 bits = (U32)values;
  const U32 rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const U32 quiet = U32{} + 0x7fc0u;
  const U16 halves = __builtin_convertvector(values != values ? quiet : rounded, U16);
  std::memcpy(target, &halves, sizeof halves);
}

#if DFAD_REGISTER_BYTES == 64
DFAD_INLINE F32 load(const F16* source) {
  // Masked with all ones: GCC warns of the plain form's undefined operand.
  return (F32)_mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(source)));
}
DFAD_INLINE void store(F16* target, F32 values) {
  _mm256_storeu_si256(
      reinterpret_cast<__m256i*>(target), _mm512_maskz_cvtps_ph(0xffff, (__m512)values, _MM_FROUND_TO_NEAREST_INT));
}
DFAD_INLINE unsigned bits_of_mask(I32 mask) { return _mm512_movepi32_mask((__m512i)mask); }
DFAD_INLINE unsigned bits_of_mask(I64 mask) { return _mm512_movepi64_mask((__m512i)mask); }
DFAD_INLINE void mask_of_bits(unsigned bits, I32& mask) { mask = (I32)_mm512_movm_epi32(bits); }
DFAD_INLINE void mask_of_bits(unsigned bits, I64& mask) { mask = (I64)_mm512_movm_epi64(bits); }
#elif DFAD_REGISTER_BYTES == 32
DFAD_INLINE F32 load(const F16* source) {
  return (F32)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(source)));
}
DFAD_INLINE void store(F16* target, F32 values) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(target), _mm256_cvtps_ph((__m256)values, _MM_FROUND_TO_NEAREST_INT));
}
DFAD_INLINE unsigned bits_of_mask(I32 mask) { return _mm256_movemask_ps((__m256)mask); }
DFAD_INLINE unsigned bits_of_mask(I64 mask) { return _mm256_movemask_pd((__m256d)mask); }
DFAD_INLINE void mask_of_bits(unsigned bits, I32& mask) {
  const I32 places = {1, 2, 4, 8, 16, 32, 64, 128};
  mask = ((I32{} + static_cast<std::int32_t>(bits)) & places) != 0;
}
DFAD_INLINE void mask_of_bits(unsigned bits, I64& mask) {
  const I64 places = {1, 2, 4, 8};
  mask = ((I64{} + static_cast<std::int64_t>(bits)) & places) != 0;
}
#else
DFAD_INLINE F32 load(const F16* source) {
  return F32{to_float(source[0]), to_float(source[1]), to_float(source[2]), to_float(source[3])};
}
DFAD_INLINE void store(F16* target, F32 values) {
  for (int i = 0; i < 4; ++i) target[i] = from_float<F16>(values[i]);
}
DFAD_INLINE unsigned bits_of_mask(I32 mask) { return (mask[0] & 1) | (mask[1] & 2) | (mask[2] & 4) | (mask[3] & 8); }
DFAD_INLINE unsigned bits_of_mask(I64 mask) { return static_cast<unsigned>((mask[0] & 1) | (mask[1] & 2)); }
DFAD_INLINE void mask_of_bits(unsigned bits, I32& mask) {
  const I32 places = {1, 2, 4, 8};
  mask = ((I32{} + static_cast<std::int32_t>(bits)) & places) != 0;
}
DFAD_INLINE void mask_of_bits(unsigned bits, I64& mask) {
  const I64 places = {1, 2};
  mask = ((I64{} + static_cast<std::int64_t>(bits)) & places) != 0;
}
#endif

// How many lanes of a group are meant: all, known to the compiler, or the rest of a row.
template <class A>
using Full = std::integral_constant<std::int64_t, lanes<A>>;
struct Rest {
  std::int64_t count;
};

template <class A>
DFAD_INLINE std::int64_t count_of(Full<A>) { return lanes<A>; }
template <class A>
DFAD_INLINE std::int64_t count_of(Rest rest) { return rest.count; }

// Calls body(first element, lanes meant) for n elements.
template <class A, class Body>
DFAD_INLINE void for_each_group(std::int64_t n, const Body& body) {
  std::int64_t i = 0;
  for (; i + lanes<A> <= n; i += lanes<A>) body(i, Full<A>{});
  if (i < n) body(i, Rest{n - i});
}

template <class A, class T>
DFAD_INLINE Group<A> load_group(const T* source, Full<A>) {
  Group<A> group;
#pragma GCC unroll 8
  for (int k = 0; k < registers<A>; ++k) group.part[k] = load(source + k * width<A>);
  return group;
}

// Lanes beyond the rest hold `beyond`.
template <class A, class T>
DFAD_INLINE Group<A> load_group(const T* source, Rest rest, A beyond = A(0)) {
  A padded[lanes<A>];
  for (std::int64_t i = 0; i < lanes<A>; ++i) padded[i] = beyond;
  for (std::int64_t i = 0; i < rest.count; ++i) padded[i] = to_float(source[i]);
  return load_group<A>(padded, Full<A>{});
}
template <class A, class T>
DFAD_INLINE Group<A> load_group(const T* source, Full<A> full, A) {
  return load_group<A>(source, full);
}

template <class A, class T>
DFAD_INLINE void store_group(T* target, const Group<A>& group, Full<A>) {
#pragma GCC unroll 8
  for (int k = 0; k < registers<A>; ++k) store(target + k * width<A>, group.part[k]);
}
template <class A, class T>
DFAD_INLINE void store_group(T* target, const Group<A>& group, Rest rest) {
  A padded[lanes<A>];
  store_group<A>(padded, group, Full<A>{});
  for (std::int64_t i = 0; i < rest.count; ++i) target[i] = from_float<T>(padded[i]);
}

// op on each register of the groups.
template <class A, class Op, class... Groups>
DFAD_INLINE Group<A> map_group(const Op& op, const Groups&... groups) {
  Group<A> out;
#pragma GCC unroll 8
  for (int k = 0; k < registers<A>; ++k) out.part[k] = op(groups.part[k]...);
  return out;
}

template <class A>
DFAD_INLINE Group<A> all_lanes(A value) {
  Group<A> group;
  for (int k = 0; k < registers<A>; ++k) group.part[k] = typename Registers<A>::Values{} + value;
  return group;
}

template <class A>
DFAD_INLINE std::uint32_t bits_of_masks(const Masks<A>& masks) {
  std::uint32_t bits = 0;
#pragma GCC unroll 8
  for (int k = 0; k < registers<A>; ++k) bits |= std::uint32_t{bits_of_mask(masks.part[k])} << (k * width<A>);
  return bits;
}

template <class A>
DFAD_INLINE Masks<A> masks_of_bits(std::uint32_t bits) {
  constexpr unsigned one_register = (1ull << width<A>) - 1;
  Masks<A> masks;
#pragma GCC unroll 8
  for (int k = 0; k < registers<A>; ++k) mask_of_bits((bits >> (k * width<A>)) & one_register, masks.part[k]);
  return masks;
}

// A sum per lane, in the compute type over a tile and in double over tiles.
template <class A>
struct LaneSums {
  Group<A> tile = {};
  double total[lanes<A>] = {};

  DFAD_INLINE_MEMBER void add(const Group<A>& values, Full<A>) {
#pragma GCC unroll 8
    for (int k = 0; k < registers<A>; ++k) tile.part[k] += values.part[k];
  }
  DFAD_INLINE_MEMBER void add(const Group<A>& values, Rest rest) {
    A all[lanes<A>], sums[lanes<A>];
    store_group<A>(all, values, Full<A>{});
    store_group<A>(sums, tile, Full<A>{});
    for (std::int64_t i = 0; i < rest.count; ++i) sums[i] += all[i];
    tile = load_group<A>(sums, Full<A>{});
  }
  DFAD_INLINE_MEMBER void end_tile() {
    A sums[lanes<A>];
    store_group<A>(sums, tile, Full<A>{});
    for (std::int64_t i = 0; i < lanes<A>; ++i) total[i] += static_cast<double>(sums[i]);
    tile = {};
  }
  DFAD_INLINE_MEMBER double sum() const {
    double sum = 0;
    for (std::int64_t i = 0; i < lanes<A>; ++i) sum += total[i];
    return sum;
  }
};
