// The kernels, in the including tier's namespace and instruction set. Loops over a tile are plain elementwise loops,
// which the compiler vectorises for the tier; only the sum fixes its lanes by hand.

// The same lanes in every tier, whatever its register width, so that all tiers add in the same order.
template <class A>
static inline double sum_tile(const A* __restrict values, std::int64_t n) {
  constexpr std::int64_t lanes = 128 / sizeof(A);
  typedef A Lanes __attribute__((vector_size(128), aligned(sizeof(A)), may_alias));
  Lanes partial = {};
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) partial += *reinterpret_cast<const Lanes*>(values + i);
  for (std::int64_t j = 0; i + j < n; ++j) partial[j] += values[i + j];
  double total = 0;
  for (std::int64_t j = 0; j < lanes; ++j) total += static_cast<double>(partial[j]);
  return total;
}

template <class F, class A>
static inline void loss_tile(
    const F& f, const A* __restrict s, const A* __restrict t, A* __restrict out, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = f.loss(s[i], t[i]);
}

template <class F, class A>
static inline void gradient_tile(
    const F& f, const A* __restrict s, const A* __restrict t, const A* __restrict g, A* __restrict out,
    std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = f.student_gradient(s[i], t[i], g[i]);
}

// Calls body(begin, n) for each tile of a range.
template <class Body>
static inline void for_each_tile(Range range, Body body) {
  for (std::int64_t begin = range.begin; begin < range.end; begin += tile_size) {
    const std::int64_t left = range.end - begin;
    body(begin, left < tile_size ? left : tile_size);
  }
}

template <class F>
static double sum(const F& f, const PairOperands& pair, Range range) {
  using A = typename F::Compute;
  alignas(64) A s_tile[tile_size], t_tile[tile_size], losses[tile_size];
  double total = 0;
  for_each_tile(range, [&](std::int64_t begin, std::int64_t n) {
    const A* s = load(pair.student, pair.shape, begin, n, s_tile);
    const A* t = load(pair.teacher, pair.shape, begin, n, t_tile);
    loss_tile(f, s, t, losses, n);
    total += sum_tile(losses, n);
  });
  return total;
}

template <class F>
static void map(const F& f, const PairOperands& pair, const Operand& out, Range range) {
  using A = typename F::Compute;
  alignas(64) A s_tile[tile_size], t_tile[tile_size], losses[tile_size];
  for_each_tile(range, [&](std::int64_t begin, std::int64_t n) {
    const A* s = load(pair.student, pair.shape, begin, n, s_tile);
    const A* t = load(pair.teacher, pair.shape, begin, n, t_tile);
    A* direct = in_place<A>(out, pair.shape, begin);
    loss_tile(f, s, t, direct ? direct : losses, n);
    if (!direct) store(out, pair.shape, begin, n, losses);
  });
}

template <class F>
static void gradient(const F& f, const PairOperands& pair, const GradientOperands& grads, Range range) {
  using A = typename F::Compute;
  alignas(64) A s_tile[tile_size], t_tile[tile_size], g_tile[tile_size], d_tile[tile_size];
  const bool per_element = grads.grad.data != nullptr;
  if (!per_element) {
    for (std::int64_t i = 0; i < tile_size; ++i) g_tile[i] = static_cast<A>(grads.scale);
  }
  for_each_tile(range, [&](std::int64_t begin, std::int64_t n) {
    const A* s = load(pair.student, pair.shape, begin, n, s_tile);
    const A* t = load(pair.teacher, pair.shape, begin, n, t_tile);
    const A* g = per_element ? load(grads.grad, pair.shape, begin, n, g_tile) : g_tile;
    const bool to_student = grads.student_grad.data != nullptr;
    A* direct = to_student ? in_place<A>(grads.student_grad, pair.shape, begin) : nullptr;
    A* d = direct ? direct : d_tile;
    gradient_tile(f, s, t, g, d, n);
    if (to_student && !direct) store(grads.student_grad, pair.shape, begin, n, d);
    if constexpr (F::has_teacher_gradient) {
      if (grads.teacher_grad.data != nullptr) {
        A* negated = in_place<A>(grads.teacher_grad, pair.shape, begin);
        A* target = negated ? negated : d_tile;
        for (std::int64_t i = 0; i < n; ++i) target[i] = -d[i];
        if (!negated) store(grads.teacher_grad, pair.shape, begin, n, target);
      }
    }
  });
}

template <class F, class A>
static inline void mix_tile(
    const F& f, const A* __restrict x, const A* __restrict y, A* __restrict out, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = f(x[i], y[i]);
}

template <class F>
static void mix(const F& f, const Shape& shape, const Operand& x, const Operand& y, const Operand& out, Range range) {
  using A = typename F::Compute;
  alignas(64) A x_tile[tile_size], y_tile[tile_size], mixed[tile_size];
  for_each_tile(range, [&](std::int64_t begin, std::int64_t n) {
    const A* own = load(x, shape, begin, n, x_tile);
    const A* other = load(y, shape, begin, n, y_tile);
    A* direct = in_place<A>(out, shape, begin);
    mix_tile(f, own, other, direct ? direct : mixed, n);
    if (!direct) store(out, shape, begin, n, mixed);
  });
}

template <class F>
constexpr PairKernels<F> pair_kernels = {&sum<F>, &map<F>, &gradient<F>};

const Kernels kernels = {
    pair_kernels<BoundaryHinge<float>>,
    pair_kernels<BoundaryHinge<double>>,
    pair_kernels<AbsoluteDifference<float>>,
    pair_kernels<AbsoluteDifference<double>>,
    {&mix<Mixture<float>>},
    {&mix<Mixture<double>>},
};
