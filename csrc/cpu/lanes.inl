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

// Which lanes of a register; unlike the result of comparing registers, AVX-512 keeps it as bits.
#if DFAD_REGISTER_BYTES == 64
struct Mask32 {
  __mmask16 lanes;
};
struct Mask64 {
  __mmask8 lanes;
};
#else
struct Mask32 {
  I32 lanes;
};
struct Mask64 {
  I64 lanes;
};
#endif

template <class A>
struct Registers;
template <>
struct Registers<float> {
  using Values = F32;
  using Mask = Mask32;
};
template <>
struct Registers<double> {
  using Values = F64;
  using Mask = Mask64;
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

DFAD_INLINE void store(float* target, F32 values) { std::memcpy(target, &values, sizeof values); }
DFAD_INLINE void store(double* target, F64 values) { std::memcpy(target, &values, sizeof values); }

// As from_float<BF16>, in the low half of each lane.
DFAD_INLINE U32 rounded_to_bf16(F32 values) {
  const U32 bits = (U32)values;
  const U32 rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return values != values ? U32{} + 0x7fc0u : rounded;
}

#if DFAD_REGISTER_BYTES == 64
// Conversions are masked with all ones: GCC warns of the plain forms' undefined operand.
DFAD_INLINE F32 load(const BF16* source) {
  return (F32)((U32)_mm512_maskz_cvtepu16_epi32(0xffff, load_as<__m256i>(source)) << 16);
}
DFAD_INLINE void store(BF16* target, F32 values) {
  const __m256i halves = _mm512_maskz_cvtepi32_epi16(0xffff, (__m512i)rounded_to_bf16(values));
  std::memcpy(target, &halves, sizeof halves);
}
DFAD_INLINE F32 load(const F16* source) {
  return (F32)_mm512_maskz_cvtph_ps(0xffff, load_as<__m256i>(source));
}
DFAD_INLINE void store(F16* target, F32 values) {
  const __m256i halves = _mm512_maskz_cvtps_ph(0xffff, (__m512)values, _MM_FROUND_TO_NEAREST_INT);
  std::memcpy(target, &halves, sizeof halves);
}

DFAD_INLINE Mask32 not_positive(F32 x) { return {_mm512_cmp_ps_mask((__m512)x, _mm512_setzero_ps(), _CMP_LE_OQ)}; }
DFAD_INLINE Mask64 not_positive(F64 x) { return {_mm512_cmp_pd_mask((__m512d)x, _mm512_setzero_pd(), _CMP_LE_OQ)}; }
DFAD_INLINE F32 select(Mask32 mask, F32 yes, F32 no) {
  return (F32)_mm512_mask_blend_ps(mask.lanes, (__m512)no, (__m512)yes);
}
DFAD_INLINE F64 select(Mask64 mask, F64 yes, F64 no) {
  return (F64)_mm512_mask_blend_pd(mask.lanes, (__m512d)no, (__m512d)yes);
}
DFAD_INLINE std::uint32_t bits_of(Mask32 mask) { return mask.lanes; }
DFAD_INLINE std::uint32_t bits_of(Mask64 mask) { return mask.lanes; }
DFAD_INLINE void set_bits(Mask32& mask, std::uint32_t bits) { mask.lanes = static_cast<__mmask16>(bits); }
DFAD_INLINE void set_bits(Mask64& mask, std::uint32_t bits) { mask.lanes = static_cast<__mmask8>(bits); }
#else
DFAD_INLINE Mask32 not_positive(F32 x) { return {x <= 0}; }
DFAD_INLINE Mask64 not_positive(F64 x) { return {x <= 0}; }
DFAD_INLINE F32 select(Mask32 mask, F32 yes, F32 no) { return mask.lanes ? yes : no; }
DFAD_INLINE F64 select(Mask64 mask, F64 yes, F64 no) { return mask.lanes ? yes : no; }

#if DFAD_REGISTER_BYTES == 32
DFAD_INLINE F32 load(const BF16* source) {
  return (F32)_mm256_slli_epi32(_mm256_cvtepu16_epi32(load_as<__m128i>(source)), 16);
}
DFAD_INLINE void store(BF16* target, F32 values) {
  const __m256i wide = (__m256i)rounded_to_bf16(values);
  const __m128i halves = _mm_packus_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
  std::memcpy(target, &halves, sizeof halves);
}
DFAD_INLINE F32 load(const F16* source) { return (F32)_mm256_cvtph_ps(load_as<__m128i>(source)); }
DFAD_INLINE void store(F16* target, F32 values) {
  const __m128i halves = _mm256_cvtps_ph((__m256)values, _MM_FROUND_TO_NEAREST_INT);
  std::memcpy(target, &halves, sizeof halves);
}
constexpr I32 places32 = {1, 2, 4, 8, 16, 32, 64, 128};
constexpr I64 places64 = {1, 2, 4, 8};
DFAD_INLINE std::uint32_t bits_of(Mask32 mask) { return _mm256_movemask_ps((__m256)mask.lanes); }
DFAD_INLINE std::uint32_t bits_of(Mask64 mask) { return _mm256_movemask_pd((__m256d)mask.lanes); }
#else
DFAD_INLINE F32 load(const BF16* source) {
  return (F32)(__builtin_convertvector(load_as<U16>(source), U32) << 16);
}
DFAD_INLINE void store(BF16* target, F32 values) {
  const U16 halves = __builtin_convertvector(rounded_to_bf16(values), U16);
  std::memcpy(target, &halves, sizeof halves);
}
DFAD_INLINE F32 load(const F16* source) {
  return F32{to_float(source[0]), to_float(source[1]), to_float(source[2]), to_float(source[3])};
}
DFAD_INLINE void store(F16* target, F32 values) {
  for (int i = 0; i < 4; ++i) target[i] = from_float<F16>(values[i]);
}
constexpr I32 places32 = {1, 2, 4, 8};
constexpr I64 places64 = {1, 2};
DFAD_INLINE std::uint32_t bits_of(Mask32 mask) {
  const I32 bits = mask.lanes & places32;
  return static_cast<std::uint32_t>(bits[0] | bits[1] | bits[2] | bits[3]);
}
DFAD_INLINE std::uint32_t bits_of(Mask64 mask) {
  const I64 bits = mask.lanes & places64;
  return static_cast<std::uint32_t>(bits[0] | bits[1]);
}
#endif
DFAD_INLINE void set_bits(Mask32& mask, std::uint32_t bits) {
  mask.lanes = ((I32{} + static_cast<std::int32_t>(bits)) & places32) != 0;
}
DFAD_INLINE void set_bits(Mask64& mask, std::uint32_t bits) {
  mask.lanes = ((I64{} + static_cast<std::int64_t>(bits)) & places64) != 0;
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
#if DFAD_REGISTER_BYTES == 64
  // Without the way over memory: short rows are nothing but a rest.
  if constexpr (std::is_same_v<T, float>) {
    const __m512 fill = _mm512_set1_ps(beyond);
    const std::uint32_t meant = (1u << rest.count) - 1;
    return {{
        (F32)_mm512_mask_loadu_ps(fill, static_cast<__mmask16>(meant), source),
        (F32)_mm512_mask_loadu_ps(fill, static_cast<__mmask16>(meant >> 16), source + 16),
    }};
  }
#endif
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
#if DFAD_REGISTER_BYTES == 64
  if constexpr (std::is_same_v<T, float>) {
    const std::uint32_t meant = (1u << rest.count) - 1;
    _mm512_mask_storeu_ps(target, static_cast<__mmask16>(meant), (__m512)group.part[0]);
    _mm512_mask_storeu_ps(target + 16, static_cast<__mmask16>(meant >> 16), (__m512)group.part[1]);
    return;
  }
#endif
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
  for (int k = 0; k < registers<A>; ++k) bits |= bits_of(masks.part[k]) << (k * width<A>);
  return bits;
}

template <class A>
DFAD_INLINE Masks<A> masks_of_bits(std::uint32_t bits) {
  constexpr unsigned one_register = (1ull << width<A>) - 1;
  Masks<A> masks;
#pragma GCC unroll 8
  for (int k = 0; k < registers<A>; ++k) set_bits(masks.part[k], (bits >> (k * width<A>)) & one_register);
  return masks;
}

// Zero beyond the lanes meant.
template <class A>
DFAD_INLINE Group<A> keep(const Group<A>& values, Full<A>) { return values; }
template <class A>
DFAD_INLINE Group<A> keep(const Group<A>& values, Rest rest) {
  const Masks<A> meant = masks_of_bits<A>((1u << rest.count) - 1);
  Group<A> kept;
#pragma GCC unroll 8
  for (int k = 0; k < registers<A>; ++k) kept.part[k] = select(meant.part[k], values.part[k], decltype(values.part[k]){});
  return kept;
}

template <class A, class Count>
DFAD_INLINE void add_to(Group<A>& sum, const Group<A>& values, Count count) {
  const Group<A> kept = keep(values, count);
#pragma GCC unroll 8
  for (int k = 0; k < registers<A>; ++k) sum.part[k] += kept.part[k];
}

// The sum of sums per lane, which are in the compute type over a tile and in double over tiles.
template <class A>
struct LaneSums {
  double total[lanes<A>] = {};

  DFAD_INLINE_MEMBER void add_tile(const Group<A>& tile) {
    A sums[lanes<A>];
    store_group<A>(sums, tile, Full<A>{});
    for (std::int64_t i = 0; i < lanes<A>; ++i) total[i] += static_cast<double>(sums[i]);
  }

  DFAD_INLINE_MEMBER double sum() {
    for (std::int64_t half = lanes<A> / 2; half > 0; half /= 2) {
      for (std::int64_t i = 0; i < half; ++i) total[i] += total[i + half];
    }
    return total[0];
  }
};
