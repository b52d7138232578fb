// Conversion between stored and computed numbers, in the including tier's namespace and instruction set.
// float16 by integer arithmetic, since base x86-64 has no instruction for it: after F. Giesen's public-domain
// float_conversion notes. Round to nearest even, like the hardware, so that tiers agree to the bit.

struct F16 {
  std::uint16_t bits;
};
struct BF16 {
  std::uint16_t bits;
};

static inline std::uint32_t bits_of(float x) {
  std::uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

static inline float float_of(std::uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

static inline float to_float(float x) { return x; }
static inline double to_float(double x) { return x; }
static inline float to_float(BF16 x) { return float_of(std::uint32_t{x.bits} << 16); }

static inline float to_float(F16 x) {
  const std::uint32_t sign = std::uint32_t{x.bits & 0x8000u} << 16;
  const std::uint32_t shifted = std::uint32_t{x.bits & 0x7fffu} << 13;
  const std::uint32_t exponent = shifted & 0x0f800000u;
  const std::uint32_t rebiased = shifted + 0x38000000u;
  const float subnormal = float_of(rebiased + 0x00800000u) - float_of(0x38800000u);
  std::uint32_t bits = exponent == 0x0f800000u ? rebiased + 0x38000000u : rebiased;
  bits = exponent == 0 ? bits_of(subnormal) : bits;
  return float_of(bits | sign);
}

template <class T>
static inline T from_float(double x);
template <>
inline double from_float<double>(double x) { return x; }
template <>
inline float from_float<float>(double x) { return static_cast<float>(x); }

template <class T>
static inline T from_float(float x);
template <>
inline double from_float<double>(float x) { return x; }
template <>
inline float from_float<float>(float x) { return x; }

template <>
inline BF16 from_float<BF16>(float x) {
  const std::uint32_t bits = bits_of(x);
  const std::uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return {static_cast<std::uint16_t>(x != x ? 0x7fc0u : rounded)};
}

template <>
inline F16 from_float<F16>(float x) {
  const std::uint32_t sign = (bits_of(x) >> 16) & 0x8000u;
  const std::uint32_t magnitude = bits_of(x) & 0x7fffffffu;
  const std::uint32_t overflow = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
  const std::uint32_t subnormal = bits_of(float_of(magnitude) + 0.5f) - bits_of(0.5f);
  const std::uint32_t normal = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  std::uint32_t bits = magnitude < 0x38800000u ? subnormal : normal;
  bits = magnitude >= 0x47800000u ? overflow : bits;
  return {static_cast<std::uint16_t>(bits | sign)};
}

// torch, too, goes from double to a half through float.
template <>
inline BF16 from_float<BF16>(double x) { return from_float<BF16>(static_cast<float>(x)); }
template <>
inline F16 from_float<F16>(double x) { return from_float<F16>(static_cast<float>(x)); }

template <class A, class T>
static inline void widen(const T* __restrict source, std::int64_t stride, std::int64_t n, A* __restrict target) {
  if (stride == 1) {
    for (std::int64_t i = 0; i < n; ++i) target[i] = to_float(source[i]);
  } else if (stride == 0) {
    const A value = to_float(source[0]);
    for (std::int64_t i = 0; i < n; ++i) target[i] = value;
  } else {
    for (std::int64_t i = 0; i < n; ++i) target[i] = to_float(source[i * stride]);
  }
}

template <class A, class T>
static inline void narrow(const A* __restrict source, T* __restrict target, std::int64_t stride, std::int64_t n) {
  if (stride == 1) {
    for (std::int64_t i = 0; i < n; ++i) target[i] = from_float<T>(source[i]);
  } else {
    for (std::int64_t i = 0; i < n; ++i) target[i * stride] = from_float<T>(source[i]);
  }
}

#if defined(DFAD_TIER_F16C)
// GCC does not vectorise the conversion by itself.
template <>
inline void widen<float, F16>(
    const F16* __restrict source, std::int64_t stride, std::int64_t n, float* __restrict target) {
  std::int64_t i = 0;
  if (stride == 1) {
    for (; i + 8 <= n; i += 8) {
      const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(source + i));
      _mm256_storeu_ps(target + i, _mm256_cvtph_ps(half));
    }
  }
  for (; i < n; ++i) target[i] = to_float(source[i * stride]);
}

template <>
inline void narrow<float, F16>(
    const float* __restrict source, F16* __restrict target, std::int64_t stride, std::int64_t n) {
  std::int64_t i = 0;
  if (stride == 1) {
    for (; i + 8 <= n; i += 8) {
      const __m128i half = _mm256_cvtps_ph(_mm256_loadu_ps(source + i), _MM_FROUND_TO_NEAREST_INT);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(target + i), half);
    }
  }
  for (; i < n; ++i) target[i * stride] = from_float<F16>(source[i]);
}
#endif
