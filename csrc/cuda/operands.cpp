#include "operands.h"

#include <ATen/ExpandUtils.h>
#include <ATen/ops/empty_strided.h>

namespace dfad::cuda {
namespace {

// In the memory order of the strides, which a tensor with other sizes than theirs has no use for as they are.
at::Tensor empty_dense(const at::Tensor& x, at::IntArrayRef strides) {
  return at::empty_strided(x.sizes(), at::infer_dense_strides(x.sizes(), strides), x.options());
}

}  // namespace

at::Tensor DenseCopies::input(const at::Tensor& x, at::IntArrayRef strides) {
  return inputs_.emplace_back(empty_dense(x, strides).copy_(x));
}

at::Tensor DenseCopies::output(const at::Tensor& x, at::IntArrayRef strides) {
  return outputs_.emplace_back(empty_dense(x, strides), x).first;
}

void DenseCopies::write_back() const {
  for (const auto& [dense, x] : outputs_) x.copy_(dense);
}

Dims without(at::IntArrayRef dims, int64_t left_out) {
  Dims kept;
  for (size_t d = 0; d < dims.size(); ++d) {
    if (static_cast<int64_t>(d) != left_out) kept.push_back(dims[d]);
  }
  return kept;
}

int64_t neighbors_at(const void* data, int64_t row_stride, int64_t element_size) {
  int64_t unit = most_neighbors;
  const auto address = static_cast<int64_t>(reinterpret_cast<uintptr_t>(data));
  const auto fits = [&](int64_t bytes) {
    return bytes <= 16 && address % bytes == 0 && row_stride * element_size % bytes == 0;
  };
  while (unit > 1 && !fits(unit * element_size)) unit /= 2;
  return unit;
}

}  // namespace dfad::cuda
