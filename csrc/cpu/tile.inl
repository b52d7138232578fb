// Moves a tile of an operand between memory, in any dtype and strides, and an L1-resident array of the compute type.
// A dense operand of the compute type is used in place.

constexpr std::int64_t tile_size = 512;

template <class A>
constexpr Dtype dtype_of = sizeof(A) == 8 ? Dtype::f64 : Dtype::f32;

// An element type takes part in at most 62 dimensions of size 2 or more: 2^63 elements do not fit an address space.
constexpr int max_dims = 64;

// Calls run(offset, done, length) for each stretch of the innermost dimension, with the operand's element offset.
template <class Run>
static inline void for_each_run(
    const Shape& shape, const std::int64_t* strides, std::int64_t begin, std::int64_t n, Run run) {
  const std::int64_t inner = shape.dims - 1;
  if (inner == 0) {
    run(begin * strides[0], 0, n);
    return;
  }
  std::int64_t index[max_dims];
  std::int64_t offset = 0;
  std::int64_t rest = begin;
  for (std::int64_t d = inner; d >= 0; --d) {
    index[d] = rest % shape.sizes[d];
    rest /= shape.sizes[d];
    offset += index[d] * strides[d];
  }
  std::int64_t done = 0;
  while (true) {
    const std::int64_t left = shape.sizes[inner] - index[inner];
    const std::int64_t length = left < n - done ? left : n - done;
    run(offset, done, length);
    done += length;
    if (done == n) return;
    offset -= index[inner] * strides[inner];
    index[inner] = 0;
    std::int64_t d = inner - 1;
    while (index[d] + 1 == shape.sizes[d]) {
      offset -= index[d] * strides[d];
      index[d] = 0;
      --d;
    }
    ++index[d];
    offset += strides[d];
  }
}

template <class A, class T>
static inline void load_as(
    const Operand& x, const Shape& shape, std::int64_t begin, std::int64_t n, A* tile) {
  const T* data = static_cast<const T*>(x.data);
  const std::int64_t stride = x.strides[shape.dims - 1];
  for_each_run(shape, x.strides, begin, n, [=](std::int64_t offset, std::int64_t done, std::int64_t length) {
    widen<A, T>(data + offset, stride, length, tile + done);
  });
}

template <class A, class T>
static inline void store_as(
    const Operand& x, const Shape& shape, std::int64_t begin, std::int64_t n, const A* tile) {
  T* data = static_cast<T*>(x.data);
  const std::int64_t stride = x.strides[shape.dims - 1];
  for_each_run(shape, x.strides, begin, n, [=](std::int64_t offset, std::int64_t done, std::int64_t length) {
    narrow<A, T>(tile + done, data + offset, stride, length);
  });
}

// The operand's own memory where it is a dense array of the compute type, else null.
template <class A>
static inline A* in_place(const Operand& x, const Shape& shape, std::int64_t begin) {
  const bool dense = shape.dims == 1 && x.strides[0] == 1 && x.dtype == dtype_of<A>;
  return dense ? static_cast<A*>(x.data) + begin : nullptr;
}

template <class A>
static inline const A* load(const Operand& x, const Shape& shape, std::int64_t begin, std::int64_t n, A* tile) {
  if (const A* direct = in_place<A>(x, shape, begin)) return direct;
  switch (x.dtype) {
    case Dtype::f64: load_as<A, double>(x, shape, begin, n, tile); break;
    case Dtype::f32: load_as<A, float>(x, shape, begin, n, tile); break;
    case Dtype::f16: load_as<A, F16>(x, shape, begin, n, tile); break;
    case Dtype::bf16: load_as<A, BF16>(x, shape, begin, n, tile); break;
  }
  return tile;
}

template <class A>
static inline void store(const Operand& x, const Shape& shape, std::int64_t begin, std::int64_t n, const A* tile) {
  switch (x.dtype) {
    case Dtype::f64: store_as<A, double>(x, shape, begin, n, tile); break;
    case Dtype::f32: store_as<A, float>(x, shape, begin, n, tile); break;
    case Dtype::f16: store_as<A, F16>(x, shape, begin, n, tile); break;
    case Dtype::bf16: store_as<A, BF16>(x, shape, begin, n, tile); break;
  }
}
