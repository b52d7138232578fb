// Moves a tile of an operand between memory, in any dtype and strides, and an L1-resident array of the compute type.
// A dense operand of the compute type is used in place.

constexpr std::int64_t tile_size = 512;

template <class A>
constexpr Dtype dtype_of = sizeof(A) == 8 ? Dtype::f64 : Dtype::f32;

// Calls body(begin, n) for each tile of a range.
template <class Body>
static inline void for_each_tile(Range range, Body body) {
  for (std::int64_t begin = range.begin; begin < range.end; begin += tile_size) {
    const std::int64_t left = range.end - begin;
    body(begin, left < tile_size ? left : tile_size);
  }
}

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

// Calls body with a null pointer of the type that a dtype is stored in.
template <class Body>
static inline void with_type(Dtype dtype, Body body) {
  switch (dtype) {
    case Dtype::f64: body(static_cast<double*>(nullptr)); break;
    case Dtype::f32: body(static_cast<float*>(nullptr)); break;
    case Dtype::f16: body(static_cast<F16*>(nullptr)); break;
    case Dtype::bf16: body(static_cast<BF16*>(nullptr)); break;
  }
}

static inline bool is_dense(const Operand& x, const Shape& shape) {
  return shape.dims == 1 && x.strides[0] == 1;
}

// The operand's own memory where it is a dense array of T, else null.
template <class T>
static inline T* in_place(const Operand& x, const Shape& shape, std::int64_t begin) {
  return is_dense(x, shape) ? static_cast<T*>(x.data) + begin : nullptr;
}

// The operand's elements in the compute type: its own memory where that is an array of them, else the tile.
template <class A>
static inline const A* read(const Operand& x, const Shape& shape, std::int64_t begin, std::int64_t n, A* tile) {
  if (x.dtype == dtype_of<A> && is_dense(x, shape)) return in_place<A>(x, shape, begin);
  const std::int64_t stride = x.strides[shape.dims - 1];
  with_type(x.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    const T* data = static_cast<const T*>(x.data);
    for_each_run(shape, x.strides, begin, n, [=](std::int64_t offset, std::int64_t done, std::int64_t length) {
      widen<A, T>(data + offset, stride, length, tile + done);
    });
  });
  return tile;
}

template <class A>
static inline void write(const Operand& x, const Shape& shape, std::int64_t begin, std::int64_t n, const A* tile) {
  const std::int64_t stride = x.strides[shape.dims - 1];
  with_type(x.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    T* data = static_cast<T*>(x.data);
    for_each_run(shape, x.strides, begin, n, [=](std::int64_t offset, std::int64_t done, std::int64_t length) {
      narrow<A, T>(tile + done, data + offset, stride, length);
    });
  });
}

// Where to compute an output's elements: in its own memory, or in the tile, from where finish_writing moves them.
template <class A>
static inline A* writable(const Operand& x, const Shape& shape, std::int64_t begin, A* tile) {
  return x.dtype == dtype_of<A> && is_dense(x, shape) ? in_place<A>(x, shape, begin) : tile;
}
template <class A>
static inline void finish_writing(
    const Operand& x, const Shape& shape, std::int64_t begin, std::int64_t n, const A* computed, const A* tile) {
  if (computed == tile) write(x, shape, begin, n, tile);
}

// Whether registers can be filled from dense arrays of this dtype, so that no tile is needed.
template <class A>
static inline bool fills_registers(Dtype dtype) {
  return dtype == dtype_of<A> || (sizeof(A) == sizeof(float) && dtype != Dtype::f64);
}

// Calls body(null pointer) for a dtype of which fills_registers is true.
template <class A, class Body>
static inline void with_register_type(Dtype dtype, Body body) {
  if constexpr (sizeof(A) == sizeof(double)) {
    body(static_cast<double*>(nullptr));
  } else if (dtype == Dtype::f16) {
    body(static_cast<F16*>(nullptr));
  } else if (dtype == Dtype::bf16) {
    body(static_cast<BF16*>(nullptr));
  } else {
    body(static_cast<float*>(nullptr));
  }
}
