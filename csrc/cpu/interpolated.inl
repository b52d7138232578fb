// L1 from interpolated labels, in the including tier's namespace and instruction set.

template <class A>
DFAD_INLINE Operand sample_of(const InterpolatedBatch::Rows& rows, std::int64_t i) {
  Operand sample = rows.first;
  with_type(sample.dtype, [&](auto* type) {
    sample.data = static_cast<std::remove_pointer_t<decltype(type)>*>(sample.data) + i * rows.stride;
  });
  return sample;
}

// The arrays of one tile of sample i.
template <class A>
struct InterpolatedTile {
  alignas(64) A student_tile[tile_size], teacher_tile[tile_size], partner_tile[tile_size], grad_tile[tile_size];
  Mixture<A> mixture;
  A scale;
  const A *student, *teacher, *partner, *grad;

  InterpolatedTile(const InterpolatedBatch& batch, std::int64_t i, std::int64_t begin, std::int64_t n)
      : mixture{static_cast<A>(batch.own[i]), static_cast<A>(batch.other[i])}, scale(static_cast<A>(batch.scale)) {
    const auto at = [&](const InterpolatedBatch::Rows& rows, std::int64_t sample, A* tile) {
      return read(sample_of<A>(rows, sample), batch.shape, begin, n, tile);
    };
    student = at(batch.student, i, student_tile);
    teacher = at(batch.teacher, i, teacher_tile);
    partner = at(batch.teacher, batch.partner[i], partner_tile);
    grad = batch.grad.first.data ? at(batch.grad, i, grad_tile) : nullptr;
  }

  template <class Count>
  DFAD_INLINE_MEMBER Group<A> label(std::int64_t i, Count count) const {
    return map_group<A>(
        [&](auto a, auto b) { return mixture(a, b); }, load_group<A>(teacher + i, count),
        load_group<A>(partner + i, count));
  }

  template <class Count>
  DFAD_INLINE_MEMBER Group<A> loss(std::int64_t i, Count count) const {
    return map_group<A>(
        [](auto a, auto b) { return AbsoluteDifference{}.loss(a, b); }, load_group<A>(student + i, count),
        label(i, count));
  }

  template <class Count>
  DFAD_INLINE_MEMBER Group<A> gradient(std::int64_t i, Count count) const {
    const Group<A> g = grad ? load_group<A>(grad + i, count) : all_lanes(scale);
    return map_group<A>(
        [](auto a, auto b, auto c) { return AbsoluteDifference{}.student_gradient(a, b, c); },
        load_group<A>(student + i, count), label(i, count), g);
  }
};

// Calls body(sample, begin, n) for each tile of each sample.
template <class Body>
static inline void for_each_sample_tile(InterpolatedPart part, const Body& body) {
  for (std::int64_t i = part.first; i < part.last; ++i) {
    for_each_tile(part.range, [&](std::int64_t begin, std::int64_t n) { body(i, begin, n); });
  }
}

template <class A>
static double interpolated_sum(const InterpolatedBatch& batch, InterpolatedPart part) {
  LaneSums<A> sums;
  Group<A> sum = {};
  std::int64_t summed = 0;
  for_each_sample_tile(part, [&](std::int64_t sample, std::int64_t begin, std::int64_t n) {
    const InterpolatedTile<A> tile(batch, sample, begin, n);
    for_each_group<A>(n, [&](std::int64_t i, auto count) { add_to(sum, tile.loss(i, count), count); });
    // Many short samples share one sum per lane, as many as a tile has elements.
    summed += n;
    if (summed < tile_size) return;
    sums.add_tile(sum);
    sum = {};
    summed = 0;
  });
  sums.add_tile(sum);
  return sums.sum();
}

// Writes to each tile of `out` what body(sample, begin, n, put) gives to put(element, group, count).
template <class A, class Body>
static inline void write_samples(
    const InterpolatedBatch& batch, const InterpolatedBatch::Rows& out, InterpolatedPart part, const Body& body) {
  alignas(64) A values[tile_size];
  for_each_sample_tile(part, [&](std::int64_t sample, std::int64_t begin, std::int64_t n) {
    const Operand row = sample_of<A>(out, sample);
    A* target = writable(row, batch.shape, begin, values);
    body(sample, begin, n, [&](std::int64_t i, const Group<A>& group, auto count) {
      store_group<A>(target + i, group, count);
    });
    finish_writing(row, batch.shape, begin, n, target, values);
  });
}

template <class A>
static void interpolated_map(
    const InterpolatedBatch& batch, const InterpolatedBatch::Rows& out, InterpolatedPart part) {
  write_samples<A>(batch, out, part, [&](std::int64_t sample, std::int64_t begin, std::int64_t n, auto put) {
    const InterpolatedTile<A> tile(batch, sample, begin, n);
    for_each_group<A>(n, [&](std::int64_t i, auto count) { put(i, tile.loss(i, count), count); });
  });
}

template <class A>
static void interpolated_student_gradient(
    const InterpolatedBatch& batch, const InterpolatedBatch::Rows& out, InterpolatedPart part) {
  write_samples<A>(batch, out, part, [&](std::int64_t sample, std::int64_t begin, std::int64_t n, auto put) {
    const InterpolatedTile<A> tile(batch, sample, begin, n);
    for_each_group<A>(n, [&](std::int64_t i, auto count) { put(i, tile.gradient(i, count), count); });
  });
}

template <class A>
static void interpolated_teacher_gradient(
    const InterpolatedBatch& batch, const std::int64_t* inverse, const InterpolatedBatch::Rows& out,
    InterpolatedPart part) {
  write_samples<A>(batch, out, part, [&](std::int64_t sample, std::int64_t begin, std::int64_t n, auto put) {
    const InterpolatedTile<A> own(batch, sample, begin, n), other(batch, inverse[sample], begin, n);
    const Mixture<A> both = {-own.mixture.own, -other.mixture.other};
    for_each_group<A>(n, [&](std::int64_t i, auto count) {
      const Group<A> mine = own.gradient(i, count), others = other.gradient(i, count);
      put(i, map_group<A>([&](auto a, auto b) { return both(a, b); }, mine, others), count);
    });
  });
}
