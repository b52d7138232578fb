// L1 from interpolated labels, in the including tier's namespace and instruction set: one sample at a time.

// The arrays of one tile of a sample.
template <class A>
struct InterpolatedTile {
  alignas(64) A student_tile[tile_size], teacher_tile[tile_size], partner_tile[tile_size], grad_tile[tile_size];
  const A *student, *teacher, *partner, *grad;

  InterpolatedTile(const Interpolated<A>& sample, const Shape& shape, std::int64_t begin, std::int64_t n)
      : student(read(sample.student, shape, begin, n, student_tile)),
        teacher(read(sample.teacher, shape, begin, n, teacher_tile)),
        partner(read(sample.partner, shape, begin, n, partner_tile)),
        grad(sample.grad.each.data ? read(sample.grad.each, shape, begin, n, grad_tile) : nullptr) {}

  template <class Count>
  DFAD_INLINE_MEMBER Group<A> label(const Mixture<A>& mixture, std::int64_t i, Count count) const {
    return map_group<A>(
        [&](auto a, auto b) { return mixture(a, b); }, load_group<A>(teacher + i, count),
        load_group<A>(partner + i, count));
  }

  template <class Count>
  DFAD_INLINE_MEMBER Group<A> loss(const Interpolated<A>& sample, std::int64_t i, Count count) const {
    return map_group<A>(
        [](auto a, auto b) { return AbsoluteDifference{}.loss(a, b); }, load_group<A>(student + i, count),
        label(sample.mixture, i, count));
  }

  template <class Count>
  DFAD_INLINE_MEMBER Group<A> gradient(const Interpolated<A>& sample, std::int64_t i, Count count) const {
    const Group<A> g = grad ? load_group<A>(grad + i, count) : all_lanes(static_cast<A>(sample.grad.scale));
    return map_group<A>(
        [](auto a, auto b, auto c) { return AbsoluteDifference{}.student_gradient(a, b, c); },
        load_group<A>(student + i, count), label(sample.mixture, i, count), g);
  }
};

template <class A>
static double interpolated_sum(const Interpolated<A>& sample, const Shape& shape, Range range) {
  LaneSums<A> sums;
  for_each_tile(range, [&](std::int64_t begin, std::int64_t n) {
    const InterpolatedTile<A> tile(sample, shape, begin, n);
    Group<A> sum = {};
    for_each_group<A>(n, [&](std::int64_t i, auto count) { add_to(sum, tile.loss(sample, i, count), count); });
    sums.add_tile(sum);
  });
  return sums.sum();
}

// Writes to each tile of `out` what value(begin, n) makes: a function of (element, count) that gives a group.
template <class A, class Value>
static inline void write_groups(const Shape& shape, const Operand& out, Range range, Value value) {
  alignas(64) A values[tile_size];
  for_each_tile(range, [&](std::int64_t begin, std::int64_t n) {
    A* target = writable(out, shape, begin, values);
    value(begin, n, [&](std::int64_t i, const Group<A>& group, auto count) {
      store_group<A>(target + i, group, count);
    });
    finish_writing(out, shape, begin, n, target, values);
  });
}

template <class A>
static void interpolated_map(const Interpolated<A>& sample, const Shape& shape, const Operand& out, Range range) {
  write_groups<A>(shape, out, range, [&](std::int64_t begin, std::int64_t n, auto put) {
    const InterpolatedTile<A> tile(sample, shape, begin, n);
    for_each_group<A>(n, [&](std::int64_t i, auto count) { put(i, tile.loss(sample, i, count), count); });
  });
}

template <class A>
static void interpolated_student_gradient(
    const Interpolated<A>& sample, const Shape& shape, const Operand& out, Range range) {
  write_groups<A>(shape, out, range, [&](std::int64_t begin, std::int64_t n, auto put) {
    const InterpolatedTile<A> tile(sample, shape, begin, n);
    for_each_group<A>(n, [&](std::int64_t i, auto count) { put(i, tile.gradient(sample, i, count), count); });
  });
}

template <class A>
static void interpolated_teacher_gradient(
    const Interpolated<A>& sample, const Interpolated<A>& inverse, const Shape& shape, const Operand& out,
    Range range) {
  const Mixture<A> both = {-sample.mixture.own, -inverse.mixture.other};
  write_groups<A>(shape, out, range, [&](std::int64_t begin, std::int64_t n, auto put) {
    const InterpolatedTile<A> own(sample, shape, begin, n), other(inverse, shape, begin, n);
    for_each_group<A>(n, [&](std::int64_t i, auto count) {
      const Group<A> mine = own.gradient(sample, i, count), others = other.gradient(inverse, i, count);
      put(i, map_group<A>([&](auto a, auto b) { return both(a, b); }, mine, others), count);
    });
  });
}
