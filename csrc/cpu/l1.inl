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

// A group's part of the signs. NaN is neither at least nor at most.
template <class A, class Count>
DFAD_INLINE void store_signs(const DifferenceSigns& signs, std::int64_t i, const Group<A>& s, const Group<A>& t, Count count) {
  const auto below = [](auto a, auto b) { return a - b; };
  const std::uint32_t at_least = bits_of_masks(not_positive(map_group<A>(below, t, s)));
  const std::uint32_t at_most = bits_of_masks(not_positive(map_group<A>(below, s, t)));
  store_bits<A>(signs.at_least + i / 8, at_least & valid_bits<A>(count), count);
  store_bits<A>(signs.at_most + i / 8, at_most & valid_bits<A>(count), count);
}

static inline DifferenceSigns signs_from(const DifferenceSigns& signs, std::int64_t begin) {
  return signs.at_least ? DifferenceSigns{signs.at_least + begin / 8, signs.at_most + begin / 8} : signs;
}

// Calls use(i, losses, count) for each group of a tile.
template <class A, class S, class T, class Use>
DFAD_INLINE void l1_tile(const S* student, const T* teacher, DifferenceSigns signs, std::int64_t n, const Use& use) {
  for_each_group<A>(n, [&](std::int64_t i, auto count) {
    const Group<A> s = load_group<A>(student + i, count), t = load_group<A>(teacher + i, count);
    if (signs.at_least) store_signs<A>(signs, i, s, t, count);
    use(i, map_group<A>([](auto a, auto b) { return AbsoluteDifference{}.loss(a, b); }, s, t), count);
  });
}

template <class A>
static double l1_sum(const PairOperands& pair, const DifferenceSigns& signs, Range range) {
  LaneSums<A> sums;
  for_each_pair_tile<A>(pair, range, [&](std::int64_t begin, std::int64_t n, const auto* student, const auto* teacher) {
    Group<A> sum = {};
    l1_tile<A>(student, teacher, signs_from(signs, begin), n, [&](std::int64_t, const Group<A>& losses, auto count) {
      add_to(sum, losses, count);
    });
    sums.add_tile(sum);
  });
  return sums.sum();
}

template <class A>
static void l1_map(const PairOperands& pair, const DifferenceSigns& signs, const Operand& out, Range range) {
  alignas(64) A tile[tile_size];
  for_each_pair_tile<A>(pair, range, [&](std::int64_t begin, std::int64_t n, const auto* student, const auto* teacher) {
    A* target = writable(out, pair.shape, begin, tile);
    l1_tile<A>(student, teacher, signs_from(signs, begin), n, [&](std::int64_t i, const Group<A>& losses, auto count) {
      store_group<A>(target + i, losses, count);
    });
    finish_writing(out, pair.shape, begin, n, target, tile);
  });
}

// Gradients of one tile; either may be null. `grad` per element, or null and `scale` for all.
template <class A, class D>
static inline void l1_gradient_tile(
    DifferenceSigns signs, const A* grad, A scale, D* student_grad, D* teacher_grad, std::int64_t n) {
  for_each_group<A>(n, [&](std::int64_t i, auto count) {
    const Masks<A> at_least = masks_of_bits<A>(load_bits<A>(signs.at_least + i / 8, count));
    const Masks<A> at_most = masks_of_bits<A>(load_bits<A>(signs.at_most + i / 8, count));
    const Group<A> g = grad ? load_group<A>(grad + i, count) : all_lanes(scale);
    Group<A> slope;
#pragma GCC unroll 8
    for (int k = 0; k < registers<A>; ++k) {
      slope.part[k] = AbsoluteDifference{}.student_gradient_of_signs(at_least.part[k], at_most.part[k], g.part[k]);
    }
    if (student_grad) store_group<A>(student_grad + i, slope, count);
    if (teacher_grad) store_group<A>(teacher_grad + i, map_group<A>([](auto v) { return -v; }, slope), count);
  });
}

template <class A>
static void l1_gradient(
    const Shape& shape, const DifferenceSigns& signs, const IncomingGradient& incoming, const Operand& student_grad,
    const Operand& teacher_grad, Range range) {
  alignas(64) A g_tile[tile_size], ds_tile[tile_size], dt_tile[tile_size];
  const A scale = static_cast<A>(incoming.scale);
  const Dtype dtype = (student_grad.data ? student_grad : teacher_grad).dtype;
  const auto takes_registers = [&](const Operand& out) {
    return out.data == nullptr || (is_dense(out, shape) && out.dtype == dtype);
  };
  const bool direct = fills_registers<A>(dtype) && takes_registers(student_grad) && takes_registers(teacher_grad);
  for_each_tile(range, [&](std::int64_t begin, std::int64_t n) {
    const A* grad = incoming.each.data ? read(incoming.each, shape, begin, n, g_tile) : nullptr;
    if (direct) {
      with_register_type<A>(dtype, [&](auto* type) {
        using T = std::remove_pointer_t<decltype(type)>;
        l1_gradient_tile<A>(
            signs_from(signs, begin), grad, scale, student_grad.data ? in_place<T>(student_grad, shape, begin) : nullptr,
            teacher_grad.data ? in_place<T>(teacher_grad, shape, begin) : nullptr, n);
      });
      return;
    }
    A* ds = student_grad.data ? writable(student_grad, shape, begin, ds_tile) : nullptr;
    A* dt = teacher_grad.data ? writable(teacher_grad, shape, begin, dt_tile) : nullptr;
    l1_gradient_tile<A>(signs_from(signs, begin), grad, scale, ds, dt, n);
    if (ds) finish_writing(student_grad, shape, begin, n, ds, ds_tile);
    if (dt) finish_writing(teacher_grad, shape, begin, n, dt, dt_tile);
  });
}
