// The activation boundary, in the including tier's namespace and instruction set.

// op(register, its mask) on each register.
template <class A, class Op>
DFAD_INLINE Group<A> map_masked(const Op& op, const Group<A>& values, const Masks<A>& masks) {
  Group<A> out;
#pragma GCC unroll 8
  for (int k = 0; k < registers<A>; ++k) out.part[k] = op(values.part[k], masks.part[k]);
  return out;
}

// A tile's teacher, as features or as bits: which of its neurons are off.
template <class A, class T>
struct Features {
  const T* data;

  template <class Count>
  DFAD_INLINE_MEMBER Masks<A> off(std::int64_t i, Count count) const {
    return not_positive(load_group<A>(data + i, count));
  }
};
template <class A>
struct Bits {
  const std::uint8_t* data;

  template <class Count>
  DFAD_INLINE_MEMBER Masks<A> off(std::int64_t i, Count count) const {
    return masks_of_bits<A>(~load_bits<A>(data + i / 8, count));
  }
};

// Loss of one tile, summed into `sums` or written to `out`. Returns how many elements agree.
template <class A, class S, class T>
static inline std::int64_t hinge_tile(
    const BoundaryHinge<A>& f, const S* student, const T& teacher, std::uint8_t* signs, A* out, LaneSums<A>& sums,
    std::int64_t n) {
  const BoundaryHinge<A> hinge = f;  // a copy, which stores to `signs` cannot change
  std::int64_t agreeing = 0;
  Group<A> sum = {};
  for_each_group<A>(n, [&](std::int64_t i, auto count) {
    const Group<A> s = load_group<A>(student + i, count);
    const Masks<A> off = teacher.off(i, count);
    const std::uint32_t teacher_off = bits_of_masks(off), student_off = bits_of_masks(not_positive(s));
    agreeing += __builtin_popcount(~(teacher_off ^ student_off) & valid_bits<A>(count));
    if (signs) store_bits<A>(signs + i / 8, ~teacher_off & valid_bits<A>(count), count);
    const Group<A> loss = map_masked([&](auto v, auto mask) { return hinge.loss(v, mask); }, s, off);
    if (out) {
      store_group<A>(out + i, loss, count);
    } else {
      add_to(sum, loss, count);
    }
  });
  sums.add_tile(sum);
  return agreeing;
}

template <class A>
static HingeSum hinge_loss(
    const BoundaryHinge<A>& f, const Shape& shape, const Operand& student, const Teacher& teacher,
    std::uint8_t* signs, const Operand& out, Range range) {
  alignas(64) A s_tile[tile_size], t_tile[tile_size], losses[tile_size];
  LaneSums<A> sums;
  std::int64_t agreeing = 0;
  const bool direct = is_dense(student, shape) && fills_registers<A>(student.dtype) &&
      (teacher.bits || (is_dense(teacher.features, shape) && teacher.features.dtype == student.dtype));
  for_each_tile(range, [&](std::int64_t begin, std::int64_t n) {
    const std::uint8_t* bits = teacher.bits ? teacher.bits + begin / 8 : nullptr;
    std::uint8_t* tile_signs = signs ? signs + begin / 8 : nullptr;
    A* losses_out = out.data ? writable(out, shape, begin, losses) : nullptr;
    if (direct) {
      with_register_type<A>(student.dtype, [&](auto* type) {
        using T = std::remove_pointer_t<decltype(type)>;
        const T* s = in_place<T>(student, shape, begin);
        agreeing += bits
            ? hinge_tile(f, s, Bits<A>{bits}, tile_signs, losses_out, sums, n)
            : hinge_tile(
                  f, s, Features<A, T>{in_place<T>(teacher.features, shape, begin)}, tile_signs, losses_out, sums, n);
      });
    } else {
      const A* s = read(student, shape, begin, n, s_tile);
      agreeing += bits
          ? hinge_tile(f, s, Bits<A>{bits}, tile_signs, losses_out, sums, n)
          : hinge_tile(
                f, s, Features<A, A>{read(teacher.features, shape, begin, n, t_tile)}, tile_signs, losses_out, sums,
                n);
    }
    if (out.data) finish_writing(out, shape, begin, n, losses_out, losses);
  });
  return {sums.sum(), agreeing};
}

// Gradient of one tile; `grad` per element, or null and `scale` for all.
template <class A, class S, class D>
static inline void hinge_gradient_tile(
    const BoundaryHinge<A>& f, const S* student, const std::uint8_t* signs, const A* grad, A scale, D* out,
    std::int64_t n) {
  const BoundaryHinge<A> hinge = f;
  for_each_group<A>(n, [&](std::int64_t i, auto count) {
    const Group<A> s = load_group<A>(student + i, count);
    const Masks<A> off = Bits<A>{signs}.off(i, count);
    const Group<A> g = grad ? load_group<A>(grad + i, count) : all_lanes(scale);
    Group<A> slope;
#pragma GCC unroll 8
    for (int k = 0; k < registers<A>; ++k) slope.part[k] = hinge.student_gradient(s.part[k], off.part[k], g.part[k]);
    store_group<A>(out + i, slope, count);
  });
}

template <class A>
static void hinge_gradient(
    const BoundaryHinge<A>& f, const Shape& shape, const Operand& student, const std::uint8_t* signs,
    const IncomingGradient& incoming, const Operand& out, Range range) {
  alignas(64) A s_tile[tile_size], g_tile[tile_size], d_tile[tile_size];
  const A scale = static_cast<A>(incoming.scale);
  const bool direct = is_dense(student, shape) && is_dense(out, shape) && out.dtype == student.dtype &&
      fills_registers<A>(student.dtype);
  for_each_tile(range, [&](std::int64_t begin, std::int64_t n) {
    const A* grad = incoming.each.data ? read(incoming.each, shape, begin, n, g_tile) : nullptr;
    if (direct) {
      with_register_type<A>(student.dtype, [&](auto* type) {
        using T = std::remove_pointer_t<decltype(type)>;
        hinge_gradient_tile(
            f, in_place<T>(student, shape, begin), signs + begin / 8, grad, scale, in_place<T>(out, shape, begin), n);
      });
    } else {
      A* d = writable(out, shape, begin, d_tile);
      hinge_gradient_tile(f, read(student, shape, begin, n, s_tile), signs + begin / 8, grad, scale, d, n);
      finish_writing(out, shape, begin, n, d, d_tile);
    }
  });
}

template <class A, class T>
static inline void pack_tile(const T* teacher, std::uint8_t* signs, std::int64_t n) {
  for_each_group<A>(n, [&](std::int64_t i, auto count) {
    const std::uint32_t on = ~bits_of_masks(not_positive(load_group<A>(teacher + i, count))) & valid_bits<A>(count);
    store_bits<A>(signs + i / 8, on, count);
  });
}

template <class A>
static void pack(const Shape& shape, const Operand& teacher, std::uint8_t* signs, Range range) {
  alignas(64) A tile[tile_size];
  for_each_tile(range, [&](std::int64_t begin, std::int64_t n) {
    if (is_dense(teacher, shape) && fills_registers<A>(teacher.dtype)) {
      with_register_type<A>(teacher.dtype, [&](auto* type) {
        using T = std::remove_pointer_t<decltype(type)>;
        pack_tile<A>(in_place<T>(teacher, shape, begin), signs + begin / 8, n);
      });
    } else {
      pack_tile<A>(read(teacher, shape, begin, n, tile), signs + begin / 8, n);
    }
  });
}
