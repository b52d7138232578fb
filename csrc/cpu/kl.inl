// The divergence of one row of logits, in the including tier's namespace and instruction set.

// exp of numbers that are not positive, to about one unit in the last place; 0 below float's normal range. Reduction
// and polynomial after S. Moshier's Cephes library. Plain arithmetic, so that every tier gives the same bits.
DFAD_INLINE F32 exponential(F32 x) {
  const F32 to_integer = F32{} + 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, in the low bits
  const F32 shifted = x * 1.44269504088896341f + to_integer;
  const F32 n = shifted - to_integer;
  const F32 r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  F32 p = F32{} + 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const F32 mantissa = p * (r * r) + r + 1.0f;
  const F32 power = (F32)(((I32)shifted - (I32)to_integer + 127) << 23);
  return x < -87.3f ? F32{} : mantissa * power;
}

DFAD_INLINE F64 exponential(F64 x) {
  F64 result = x;
  for (int i = 0; i < width<double>; ++i) result[i] = std::exp(x[i]);
  return result;
}

// max of both, and NaN where either is.
template <class V>
DFAD_INLINE V maximum(V a, V b) {
  const V greater = a > b ? a : b;
  return a != a ? a : greater;
}

// Calls body(element of the tile, student, teacher, count) with each group of a tile's logits over the temperature.
template <class A, class Body>
static inline void for_each_logits(
    A inverse_temperature, const PairOperands& pair, std::int64_t begin, std::int64_t n, Body body) {
  const A beyond = -std::numeric_limits<A>::infinity();
  const auto scaled = [&](auto v) { return v * inverse_temperature; };
  const auto over = [&](const auto* student, const auto* teacher) {
    for_each_group<A>(n, [&](std::int64_t i, auto count) {
      body(
          i, map_group<A>(scaled, load_group<A>(student + i, count, beyond)),
          map_group<A>(scaled, load_group<A>(teacher + i, count, beyond)), count);
    });
  };
  const Dtype dtype = pair.student.dtype;
  if (is_dense(pair.student, pair.shape) && is_dense(pair.teacher, pair.shape) && pair.teacher.dtype == dtype &&
      fills_registers<A>(dtype)) {
    with_register_type<A>(dtype, [&](auto* type) {
      using T = std::remove_pointer_t<decltype(type)>;
      over(in_place<T>(pair.student, pair.shape, begin), in_place<T>(pair.teacher, pair.shape, begin));
    });
    return;
  }
  alignas(64) A s_tile[tile_size], t_tile[tile_size];
  over(read(pair.student, pair.shape, begin, n, s_tile), read(pair.teacher, pair.shape, begin, n, t_tile));
}

// The same for all tiles of the row.
template <class A, class Body>
static inline void for_each_logits(A inverse_temperature, const PairOperands& pair, Body body) {
  for_each_tile({0, pair.shape.sizes[0]}, [&](std::int64_t begin, std::int64_t n) {
    for_each_logits<A>(inverse_temperature, pair, begin, n, body);
  });
}

template <class A>
static inline A greatest(const Group<A>& group) {
  auto both = group.part[0];
#pragma GCC unroll 8
  for (int k = 1; k < registers<A>; ++k) both = maximum(both, group.part[k]);
  A values[width<A>];
  store(values, both);
  for (int half = width<A> / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) values[i] = maximum(values[i], values[i + half]);
  }
  return values[0];
}

// log p of a group, from the statistics.
template <class A>
DFAD_INLINE Group<A> log_softmax(const Group<A>& logits, A max, A log_sum) {
  return map_group<A>([&](auto v) { return v - max - log_sum; }, logits);
}

// Registers without a lane that is meant are left at 0: a row of ten classes costs one exponential, not several.
template <class A, class Count>
DFAD_INLINE Group<A> exponential_of(const Group<A>& group, Count count) {
  Group<A> result = {};
#pragma GCC unroll 8
  for (int k = 0; k < registers<A>; ++k) {
    if (k * width<A> < count_of<A>(count)) result.part[k] = exponential(group.part[k]);
  }
  return result;
}

template <class A>
static inline double sum_of(const Group<A>& group) {
  LaneSums<A> sums;
  sums.add_tile(group);
  return sums.sum();
}

template <class A>
static KLStatistics<A> kl_loss(A inverse_temperature, const PairOperands& pair) {
  const A lowest = -std::numeric_limits<A>::infinity();
  KLStatistics<A> result = {};
  if (pair.shape.sizes[0] == 0) return result;

  Group<A> s_max = all_lanes(lowest), t_max = all_lanes(lowest);
  for_each_logits<A>(inverse_temperature, pair, [&](std::int64_t, const auto& s, const auto& t, auto) {
    s_max = map_group<A>([](auto a, auto b) { return maximum(a, b); }, s_max, s);
    t_max = map_group<A>([](auto a, auto b) { return maximum(a, b); }, t_max, t);
  });
  result.student_max = greatest(s_max);
  result.teacher_max = greatest(t_max);

  // With e = exp(t - max) and its sum, p = e / sum: the divergence is sum e ((t - max) - (s - max)) / sum, and the
  // difference of the logarithms of both sums. Lanes beyond a rest are -inf and add 0. Rows are short beside a tile:
  // one sum per lane does for all of the row.
  Group<A> s_sums = {}, t_sums = {}, products = {};
  for_each_logits<A>(inverse_temperature, pair, [&](std::int64_t, const auto& s, const auto& t, auto count) {
    const Group<A> below_s = map_group<A>([&](auto v) { return v - result.student_max; }, s);
    const Group<A> below_t = map_group<A>([&](auto v) { return v - result.teacher_max; }, t);
    const Group<A> e = exponential_of(below_t, count);
    const auto term = [](auto e, auto t, auto s) { return KLDivergence{}.loss(e, t, s); };
    add_to(s_sums, exponential_of(below_s, count), Full<A>{});
    add_to(t_sums, e, Full<A>{});
    add_to(products, map_group<A>(term, e, below_t, below_s), Full<A>{});
  });
  const double s_sum = sum_of(s_sums), t_sum = sum_of(t_sums);
  const double student_log_sum = std::log(s_sum), teacher_log_sum = std::log(t_sum);
  result.student_log_sum = static_cast<A>(student_log_sum);
  result.teacher_log_sum = static_cast<A>(teacher_log_sum);
  result.divergence = static_cast<A>(sum_of(products) / t_sum + (student_log_sum - teacher_log_sum));
  return result;
}

template <class A>
static void kl_gradient(
    A inverse_temperature, const PairOperands& pair, const KLStatistics<A>& row, A grad, const Operand& student_grad,
    const Operand& teacher_grad) {
  alignas(64) A ds_tile[tile_size], dt_tile[tile_size];
  const A scale = grad * inverse_temperature;
  for_each_tile({0, pair.shape.sizes[0]}, [&](std::int64_t begin, std::int64_t n) {
    A* ds = student_grad.data ? writable(student_grad, pair.shape, begin, ds_tile) : nullptr;
    A* dt = teacher_grad.data ? writable(teacher_grad, pair.shape, begin, dt_tile) : nullptr;
    for_each_logits<A>(
        inverse_temperature, pair, begin, n, [&](std::int64_t i, const auto& s, const auto& t, auto count) {
          const Group<A> log_q = log_softmax(s, row.student_max, row.student_log_sum);
          const Group<A> log_p = log_softmax(t, row.teacher_max, row.teacher_log_sum);
          const Group<A> p = exponential_of(log_p, count), g = all_lanes(scale);
          if (ds) {
            const auto slope = [](auto p, auto q, auto g) { return KLDivergence{}.student_gradient(p, q, g); };
            store_group<A>(ds + i, map_group<A>(slope, p, exponential_of(log_q, count), g), count);
          }
          if (dt) {
            const auto slope = [&](auto p, auto lp, auto lq, auto g) {
              return KLDivergence{}.teacher_gradient(p, lp, lq, decltype(p){} + row.divergence, g);
            };
            store_group<A>(dt + i, map_group<A>(slope, p, log_p, log_q, g), count);
          }
        });
    if (ds) finish_writing(student_grad, pair.shape, begin, n, ds, ds_tile);
    if (dt) finish_writing(teacher_grad, pair.shape, begin, n, dt, dt_tile);
  });
}
