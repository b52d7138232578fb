// The L1 discrepancy, in the including tier's namespace and instruction set.

// Calls body(student, teacher) on each tile with arrays that fill registers: the operands' own memory where both are
// dense and of one dtype, else tiles of the compute type.
template <class A, class Body>
static inline void for_each_pair_tile(const PairOperands& pair, Range range, Body body) {
  alignas(64) A s_tile[tile_size], t_tile[tile_size];
  const bool direct = is_dense(pair.student, pair.shape) && is_dense(pair.teacher, pair.shape) &&
      pair.student.dtype == pair.teacher.dtype && fills_registers<A>(pair.student.dtype);
  for_each_tile(range, [&](std::int64_t begin, std::int64_t n) {
    if (direct) {
      with_register_type<A>(pair.student.dtype, [&](auto* type) {
        using T = std::remove_pointer_t<decltype(type)>;
        body(begin, n, in_place<T>(pair.student, pair.shape, begin), in_place<T>(pair.teacher, pair.shape, begin));
      });
    } else {
      body(
          begin, n, read(pair.student, pair.shape, begin, n, s_tile), read(pair.teacher, pair.shape, begin, n, t_tile));
    }
  });
}

template <class A>
static double l1_sum(const PairOperands& pair, Range range) {
  LaneSums<A> sums;
  for_each_pair_tile<A>(pair, range, [&](std::int64_t, std::int64_t n, const auto* student, const auto* teacher) {
    Group<A> sum = {};
    for_each_group<A>(n, [&](std::int64_t i, auto count) {
      const Group<A> s = load_group<A>(student + i, count), t = load_group<A>(teacher + i, count);
      add_to(sum, map_group<A>([](auto a, auto b) { return AbsoluteDifference{}.loss(a, b); }, s, t), count);
    });
    sums.add_tile(sum);
  });
  return sums.sum();
}

template <class A>
static void l1_map(const PairOperands& pair, const Operand& out, Range range) {
  alignas(64) A losses[tile_size];
  for_each_pair_tile<A>(
      pair, range, [&](std::int64_t begin, std::int64_t n, const auto* student, const auto* teacher) {
        A* target = writable(out, pair.shape, begin, losses);
        for_each_group<A>(n, [&](std::int64_t i, auto count) {
          const Group<A> s = load_group<A>(student + i, count), t = load_group<A>(teacher + i, count);
          store_group<A>(
              target + i, map_group<A>([](auto a, auto b) { return AbsoluteDifference{}.loss(a, b); }, s, t), count);
        });
        finish_writing(out, pair.shape, begin, n, target, losses);
      });
}

// Gradients of one tile; either may be null. `grad` per element, or null and `scale` for all.
template <class A, class S, class D>
static inline void l1_gradient_tile(
    const S* student, const S* teacher, const A* grad, A scale, D* student_grad, D* teacher_grad, std::int64_t n) {
  for_each_group<A>(n, [&](std::int64_t i, auto count) {
    const Group<A> s = load_group<A>(student + i, count), t = load_group<A>(teacher + i, count);
    const Group<A> g = grad ? load_group<A>(grad + i, count) : all_lanes(scale);
    const Group<A> slope = map_group<A>(
        [](auto a, auto b, auto c) { return AbsoluteDifference{}.student_gradient(a, b, c); }, s, t, g);
    if (student_grad) store_group<A>(student_grad + i, slope, count);
    if (teacher_grad) store_group<A>(teacher_grad + i, map_group<A>([](auto v) { return -v; }, slope), count);
  });
}

template <class A>
static void l1_gradient(
    const PairOperands& pair, const IncomingGradient& incoming, const Operand& student_grad,
    const Operand& teacher_grad, Range range) {
  alignas(64) A s_tile[tile_size], t_tile[tile_size], g_tile[tile_size], ds_tile[tile_size], dt_tile[tile_size];
  const Shape& shape = pair.shape;
  const A scale = static_cast<A>(incoming.scale);
  const Dtype dtype = pair.student.dtype;
  const auto writes_registers = [&](const Operand& out) {
    return out.data == nullptr || (is_dense(out, shape) && out.dtype == dtype);
  };
  const bool direct = is_dense(pair.student, shape) && is_dense(pair.teacher, shape) && pair.teacher.dtype == dtype &&
      fills_registers<A>(dtype) && writes_registers(student_grad) && writes_registers(teacher_grad);
  for_each_tile(range, [&](std::int64_t begin, std::int64_t n) {
    const A* grad = incoming.each.data ? read(incoming.each, shape, begin, n, g_tile) : nullptr;
    if (direct) {
      with_register_type<A>(dtype, [&](auto* type) {
        using T = std::remove_pointer_t<decltype(type)>;
        l1_gradient_tile<A>(
            in_place<T>(pair.student, shape, begin), in_place<T>(pair.teacher, shape, begin), grad, scale,
            student_grad.data ? in_place<T>(student_grad, shape, begin) : nullptr,
            teacher_grad.data ? in_place<T>(teacher_grad, shape, begin) : nullptr, n);
      });
      return;
    }
    A* ds = student_grad.data ? writable(student_grad, shape, begin, ds_tile) : nullptr;
    A* dt = teacher_grad.data ? writable(teacher_grad, shape, begin, dt_tile) : nullptr;
    l1_gradient_tile<A>(
        read(pair.student, shape, begin, n, s_tile), read(pair.teacher, shape, begin, n, t_tile), grad, scale, ds, dt,
        n);
    if (ds) finish_writing(student_grad, shape, begin, n, ds, ds_tile);
    if (dt) finish_writing(teacher_grad, shape, begin, n, dt, dt_tile);
  });
}
