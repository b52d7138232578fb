#include "operands.h"

#include <ATen/ExpandUtils.h>
#include <ATen/ops/empty_strided.h>

#include "transpose.h"

namespace dfad::cuda {
namespace {

// In the memory order of the strides, which a tensor with other sizes than theirs has no use for as they are.
at::Tensor empty_dense(const at::Tensor& x, at::IntArrayRef strides) {
  return at::empty_strided(x.sizes(), at::infer_dense_strides(x.sizes(), strides), x.options());
}

void copy_between(const at::Tensor& to, const at::Tensor& from) {
  if (const auto transposition = transposition_of(to.sizes(), to.strides(), from.strides())) {
    transpose(*transposition, to, from);
  } else {
    to.copy_(from);
  }
}

bool lies_across(const at::Tensor& x, at::IntArrayRef strides) {
  return x.strides() != strides &&
         transposition_of(x.sizes(), at::infer_dense_strides(x.sizes(), strides), x.strides()).has_value();
}

}  // namespace

at::Tensor DenseCopies::input(const at::Tensor& x, at::IntArrayRef strides) {
  for (const auto& [dense, original] : inputs_) {
    if (original.is_same(x) && dense.strides() == at::infer_dense_strides(x.sizes(), strides)) return dense;
  }
  const at::Tensor dense = inputs_.emplace_back(empty_dense(x, strides), x).first;
  copy_between(dense, x);
  return dense;
}

at::Tensor DenseCopies::output(const at::Tensor& x, at::IntArrayRef strides) {
  return outputs_.emplace_back(empty_dense(x, strides), x).first;
}

at::Tensor DenseCopies::input_along(const at::Tensor& x, at::IntArrayRef strides) {
  return lies_across(x, strides) ? input(x, strides) : x;
}

at::Tensor DenseCopies::output_along(const at::Tensor& x, at::IntArrayRef strides) {
  return lies_across(x, strides) ? output(x, strides) : x;
}

void DenseCopies::write_back() const {
  // A later copy may stand in for an earlier one.
  for (auto output = outputs_.rbegin(); output != outputs_.rend(); ++output) copy_between(output->second, output->first);
}

at::Tensor laid_out_on_device(const at::Tensor& x, at::IntArrayRef strides) {
  return laid_out(DenseCopies().input_along(x, strides), strides);
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
