#pragma once

// Builds a kernel's Loop from tensors, on the host.

#include <ATen/ExpandUtils.h>
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "../layout.h"
#include "loop.h"

namespace dfad::cuda {

// What stands in for operands whose strides no kernel takes: lives until the kernels that use it were launched.
class DenseCopies {
 public:
  at::Tensor input(const at::Tensor& x, at::IntArrayRef strides);
  at::Tensor output(const at::Tensor& x, at::IntArrayRef strides);

  // x, or what stands in for it where its neighbors lie apart in this order, and the order's in x: a loop over both would
  // use a small part of what it moves, more than a copy costs.
  at::Tensor input_along(const at::Tensor& x, at::IntArrayRef strides);
  at::Tensor output_along(const at::Tensor& x, at::IntArrayRef strides);

  // After the launch: moves the outputs to where they belong.
  void write_back() const;

 private:
  std::vector<std::pair<at::Tensor, at::Tensor>> inputs_, outputs_;  // the copy, and what it stands in for
};

// x with these dense strides: itself, or a copy, by a transposition where x lies across them.
at::Tensor laid_out_on_device(const at::Tensor& x, at::IntArrayRef strides);

constexpr int64_t nothing_left_out = -1;

// The sizes or strides without the dimension that is left out.
Dims without(at::IntArrayRef dims, int64_t left_out);

constexpr int64_t most_neighbors = 8;

// How many neighbors one access of 16 bytes at most moves, wherever an operand's rows begin.
int64_t neighbors_at(const void* data, int64_t row_stride, int64_t element_size);

template <int operands>
bool set_loop(
    Loop<operands>& loop, const at::Tensor (&tensors)[operands], at::IntArrayRef sizes, at::IntArrayRef order,
    int64_t left_out) {
  Dims kept[operands];
  at::IntArrayRef strides[operands];
  for (int n = 0; n < operands; ++n) {
    const at::IntArrayRef full = tensors[n].defined() ? tensors[n].strides() : order;
    kept[n] = without(full, left_out);
    strides[n] = kept[n];
    loop.outer[n] = left_out == nothing_left_out ? 0 : full[left_out];
  }
  const Dims kept_sizes = without(sizes, left_out);
  const Layout layout(kept_sizes, at::infer_dense_strides(kept_sizes, without(order, left_out)), strides);
  const size_t dims = layout.sizes().size();
  if (dims > max_dims) return false;
  loop.dims = static_cast<int8_t>(dims);
  loop.elements = c10::multiply_integers(layout.sizes());
  for (size_t d = 0; d < dims; ++d) {
    loop.sizes[d] = layout.sizes()[d];
    for (int n = 0; n < operands; ++n) loop.strides[n][d] = layout.strides(n)[d];
  }
  bool alike = loop.dims == 1;
  int64_t unit = most_neighbors;
  for (int n = 0; n < operands; ++n) {
    const at::Tensor& x = tensors[n];
    if (!x.defined()) continue;
    loop.data[n] = const_cast<void*>(x.const_data_ptr());
    loop.dtypes[n] = x.scalar_type();
    alike = alike && loop.strides[n][0] == 1;
    unit = std::min(unit, neighbors_at(loop.data[n], loop.outer[n], x.element_size()));
  }
  // Rows are laid end to end, and no piece may belong to two.
  while (left_out != nothing_left_out && loop.elements % unit != 0) unit /= 2;
  loop.unit = static_cast<int8_t>(alike ? unit : 1);
  return true;
}

// A loop over tensors of these sizes as they lie, the outputs first, in the memory order of the strides `order`, without
// the dimension `left_out`. An undefined tensor is an operand that is not there; an operand may have size 1 in the
// dimension that is left out.
template <int outs, int operands>
Loop<operands> loop_as_they_lie(
    const at::Tensor (&tensors)[operands], at::IntArrayRef sizes, at::IntArrayRef order, DenseCopies& copies,
    int64_t left_out = nothing_left_out) {
  Loop<operands> loop = {};
  if (set_loop(loop, tensors, sizes, order, left_out)) return loop;
  at::Tensor dense[operands];
  for (int n = 0; n < operands; ++n) {
    if (!tensors[n].defined()) continue;
    dense[n] = n < outs ? copies.output(tensors[n], order) : copies.input(tensors[n], order);
  }
  const bool fits = set_loop(loop, dense, sizes, order, left_out);
  TORCH_INTERNAL_ASSERT(fits);
  return loop;
}

// The same, of tensors that lie along the order or have been brought into it.
template <int outs, int operands>
Loop<operands> loop_over(
    const at::Tensor (&tensors)[operands], at::IntArrayRef sizes, at::IntArrayRef order, DenseCopies& copies,
    int64_t left_out = nothing_left_out) {
  at::Tensor along[operands];
  for (int n = 0; n < operands; ++n) {
    if (!tensors[n].defined()) continue;
    along[n] = n < outs ? copies.output_along(tensors[n], order) : copies.input_along(tensors[n], order);
  }
  return loop_as_they_lie<outs>(along, sizes, order, copies, left_out);
}

}  // namespace dfad::cuda
