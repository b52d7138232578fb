// Mixtures, in the including tier's namespace and instruction set.

template <class A, class T, class D>
static inline void mix_tile(const Mixture<A>& f, const T* x, const T* y, D* out, std::int64_t n) {
  for_each_group<A>(n, [&](std::int64_t i, auto count) {
    const Group<A> own = load_group<A>(x + i, count), other = load_group<A>(y + i, count);
    store_group<A>(out + i, map_group<A>([&](auto a, auto b) { return f(a, b); }, own, other), count);
  });
}

// x, y and out are of one dtype.
template <class A>
static void mix(
    const Mixture<A>& f, const Shape& shape, const Operand& x, const Operand& y, const Operand& out, Range range) {
  alignas(64) A x_tile[tile_size], y_tile[tile_size], mixed[tile_size];
  const bool direct = is_dense(x, shape) && is_dense(out, shape) && fills_registers<A>(x.dtype);
  for_each_tile(range, [&](std::int64_t begin, std::int64_t n) {
    if (direct) {
      with_register_type<A>(x.dtype, [&](auto* type) {
        using T = std::remove_pointer_t<decltype(type)>;
        mix_tile(
            f, in_place<T>(x, shape, begin), in_place<T>(y, shape, begin), in_place<T>(out, shape, begin), n);
      });
      return;
    }
    A* target = writable(out, shape, begin, mixed);
    mix_tile(f, read(x, shape, begin, n, x_tile), read(y, shape, begin, n, y_tile), target, n);
    finish_writing(out, shape, begin, n, target, mixed);
  });
}
