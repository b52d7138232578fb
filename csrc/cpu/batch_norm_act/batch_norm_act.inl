// Batch norm and activation on stretches of memory, in the including tier's namespace and instruction set.
//
// Along a stretch the channels follow a pattern, a whole number of groups of lanes that comes again and again: one group
// where 32 is a multiple of the channels, or where the stretch is one channel's. Tables hold a number for each of its
// lanes.

// Whole periods of a pattern so short that tables and sums stay in registers.
template <class A, int tables, int sums, int width, class Body>
DFAD_INLINE std::int64_t norm_periods(
    std::int64_t first, std::int64_t elements, const A* const (&table)[tables], A* const (&sum)[sums],
    const Body& body) {
  Group<A> values[width][tables], added[width][sums] = {};
#pragma GCC unroll 2
  for (int j = 0; j < width; ++j) {
#pragma GCC unroll 8
    for (int t = 0; t < tables; ++t) values[j][t] = load_group<A>(table[t] + j * lanes<A>, Full<A>{});
#pragma GCC unroll 2
    for (int s = 0; s < sums; ++s) {
      if (sum[s]) added[j][s] = load_group<A>(sum[s] + j * lanes<A>, Full<A>{});
    }
  }
  std::int64_t i = 0;
  for (; i + width * lanes<A> <= elements; i += width * lanes<A>) {
#pragma GCC unroll 2
    for (int j = 0; j < width; ++j) body(first + i + j * lanes<A>, Full<A>{}, values[j], added[j]);
  }
#pragma GCC unroll 2
  for (int j = 0; j < width; ++j) {
#pragma GCC unroll 2
    for (int s = 0; s < sums; ++s) {
      if (sum[s]) store_group<A>(sum[s] + j * lanes<A>, added[j][s], Full<A>{});
    }
  }
  return i;
}

// Calls body(element, lanes meant, groups of the tables, groups of the sums) for each group; sums are added to.
template <class A, int tables, int sums, class Body>
DFAD_INLINE void norm_along(
    const NormStretch& of, const A* const (&table)[tables], A* const (&sum)[sums], const Body& body) {
  for (std::int64_t piece = 0; piece < of.pieces; ++piece) {
    const std::int64_t first = piece * of.distance, period = of.groups * lanes<A>;
    std::int64_t i = 0;
    if (of.groups == 1) {
      i = norm_periods<A, tables, sums, 1>(first, of.elements, table, sum, body);
    } else if (of.groups == 2) {
      i = norm_periods<A, tables, sums, 2>(first, of.elements, table, sum, body);
    }
    for (std::int64_t place = 0; i < of.elements; i += lanes<A>, place = place + lanes<A> == period ? 0 : place + lanes<A>) {
      Group<A> values[tables], added[sums] = {};
#pragma GCC unroll 8
      for (int t = 0; t < tables; ++t) values[t] = load_group<A>(table[t] + place, Full<A>{});
#pragma GCC unroll 2
      for (int s = 0; s < sums; ++s) {
        if (sum[s]) added[s] = load_group<A>(sum[s] + place, Full<A>{});
      }
      const std::int64_t left = of.elements - i;
      if (left >= lanes<A>) {
        body(first + i, Full<A>{}, values, added);
      } else {
        body(first + i, Rest{left}, values, added);
      }
#pragma GCC unroll 2
      for (int s = 0; s < sums; ++s) {
        if (sum[s]) store_group<A>(sum[s] + place, added[s], Full<A>{});
      }
    }
  }
}

template <class A>
DFAD_INLINE Group<A> norm_activated(const BatchNormAct<A>& f, const Group<A>& values, const Masks<A>& off) {
  return map_masked([&](auto v, auto mask) { return f.activated(v, mask); }, values, off);
}

template <class A>
static void norm_apply(
    const BatchNormAct<A>& given, const NormStretch& of, const void* x, const void* residual,
    const NormTables<A>& tables, void* out) {
  const BatchNormAct<A> f = given;  // a copy, which stores cannot change
  with_register_type<A>(of.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    const T *const from = static_cast<const T*>(x), *const beside = static_cast<const T*>(residual);
    T* const to = static_cast<T*>(out);
    const A* const table[] = {tables.mean, tables.scale, tables.bias};
    A* const sum[] = {nullptr};
    norm_along<A>(of, table, sum, [&](std::int64_t i, auto count, const auto& values, auto&) {
      Group<A> y = map_group<A>(
          [&](auto v, auto mean, auto scale, auto bias) { return f.normalized(v, mean, scale, bias); },
          load_group<A>(from + i, count), values[0], values[1], values[2]);
      if (beside) {
        y = map_group<A>([](auto a, auto b) { return a + b; }, y, load_group<A>(beside + i, count));
      }
      store_group<A>(to + i, norm_activated(f, y, not_positive(y)), count);
    });
  });
}

// The gradient that comes to a value before the activation. Whether it is on is read from the output, where that is
// given, else computed as norm_apply did.
template <class A, class T, class Count>
DFAD_INLINE Group<A> norm_gradient_before_activation(
    const BatchNormAct<A>& f, const T* grad, const T* out, const Group<A>& x, const Group<A>& mean,
    const Group<A>& scale, const Group<A>& bias, std::int64_t i, Count count) {
  const Group<A> g = load_group<A>(grad + i, count);
  if (f.slope == 1) return g;
  const Group<A> y = out ? load_group<A>(out + i, count)
                         : map_group<A>(
                               [&](auto v, auto m, auto s, auto b) { return f.normalized(v, m, s, b); }, x, mean,
                               scale, bias);
  return norm_activated(f, g, not_positive(y));
}

// Adds the gradient before the activation, and its products with x - mean, to the sums; writes it to `residual_grad`,
// where that is given.
template <class A>
static void norm_sums(
    const BatchNormAct<A>& given, const NormStretch& of, const NormBackward& pass, const NormTables<A>& tables,
    A* sums, A* products) {
  const BatchNormAct<A> f = given;
  with_register_type<A>(of.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    const T *const grad = static_cast<const T*>(pass.grad), *const x = static_cast<const T*>(pass.x),
            *const out = static_cast<const T*>(pass.out);
    T* const residual_grad = static_cast<T*>(pass.residual_grad);
    const A* const table[] = {tables.mean, tables.scale, tables.bias};
    A* const sum[] = {sums, products};
    norm_along<A>(of, table, sum, [&](std::int64_t i, auto count, const auto& values, auto& added) {
      const Group<A> v = load_group<A>(x + i, count);
      const Group<A> g =
          norm_gradient_before_activation(f, grad, out, v, values[0], values[1], values[2], i, count);
      if (residual_grad) store_group<A>(residual_grad + i, g, count);
      if (!sums) return;
      add_to(added[0], g, count);
      add_to(
          added[1], map_group<A>([](auto a, auto b, auto mean) { return a * (b - mean); }, g, v, values[0]), count);
    });
  });
}

// Without `by_x`, the statistics are constants: an infinite x then has no part in it.
template <class A>
static void norm_gradient(
    const BatchNormAct<A>& given, const NormStretch& of, const NormBackward& pass, const NormTables<A>& tables,
    const A* by_x, const A* level, void* x_grad) {
  const BatchNormAct<A> f = given;
  with_register_type<A>(of.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    const T *const grad = static_cast<const T*>(pass.grad), *const x = static_cast<const T*>(pass.x),
            *const out = static_cast<const T*>(pass.out);
    T* const to = static_cast<T*>(x_grad);
    const bool constant = by_x == nullptr;
    const A* const table[] = {
        tables.mean, tables.scale, tables.bias, constant ? tables.mean : by_x, constant ? tables.mean : level};
    A* const sum[] = {nullptr};
    norm_along<A>(of, table, sum, [&](std::int64_t i, auto count, const auto& values, auto&) {
      const Group<A> v = load_group<A>(x + i, count);
      const Group<A> g =
          norm_gradient_before_activation(f, grad, out, v, values[0], values[1], values[2], i, count);
      const Group<A> slope = map_group<A>(
          [&](auto a, auto b, auto mean, auto scale, auto by, auto at) {
            return constant ? a * scale : f.input_gradient(a, b, mean, scale, by, at);
          },
          g, v, values[0], values[1], values[3], values[4]);
      store_group<A>(to + i, slope, count);
    });
  });
}
