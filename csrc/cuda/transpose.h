#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

namespace dfad::cuda {

// A copy between two memory orders of which each has neighbors where the other has rows, as contiguous and channels_last
// images do: so many matrices, each of which is transposed.
struct Transposition {
  int64_t matrices, rows, columns;
  int64_t to_matrix, to_row;       // strides of what is written, whose columns are neighbors
  int64_t from_matrix, from_column;  // strides of what is read, whose rows are neighbors
};

// None where the orders lie otherwise, or the matrices are so narrow that a gather does as well.
std::optional<Transposition> transposition_of(at::IntArrayRef sizes, at::IntArrayRef to, at::IntArrayRef from);

// Writes `from` to `to`, of the same sizes and dtype. Both are read and written along their neighbors.
void transpose(const Transposition& of, const at::Tensor& to, const at::Tensor& from);

}  // namespace dfad::cuda
