// One bit per element, in the including tier's namespace and instruction set.

template <class A>
DFAD_INLINE Masks<A> not_positive(const Group<A>& values) {
  Masks<A> masks;
#pragma GCC unroll 8
  for (int k = 0; k < registers<A>; ++k) masks.part[k] = not_positive(values.part[k]);
  return masks;
}

// A group's bits: all of them, or as many as its rest has, with 0 beyond.
template <class A>
DFAD_INLINE std::uint32_t valid_bits(Full<A>) { return static_cast<std::uint32_t>((1ull << lanes<A>) - 1); }
template <class A>
DFAD_INLINE std::uint32_t valid_bits(Rest rest) { return static_cast<std::uint32_t>((1ull << rest.count) - 1); }

template <class A>
DFAD_INLINE std::uint32_t load_bits(const std::uint8_t* source, Full<A>) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, source, lanes<A> / 8);
  return bits;
}
template <class A>
DFAD_INLINE std::uint32_t load_bits(const std::uint8_t* source, Rest rest) {
  std::uint32_t bits = 0;
  for (std::int64_t i = 0; i < rest.count; i += 8) bits |= std::uint32_t{source[i / 8]} << i;
  return bits;
}

template <class A>
DFAD_INLINE void store_bits(std::uint8_t* target, std::uint32_t bits, Full<A>) {
  std::memcpy(target, &bits, lanes<A> / 8);
}
template <class A>
DFAD_INLINE void store_bits(std::uint8_t* target, std::uint32_t bits, Rest rest) {
  for (std::int64_t i = 0; i < rest.count; i += 8) target[i / 8] = static_cast<std::uint8_t>(bits >> i);
}
