#pragma once

// What backends share of l1_discrepancy: the signs that its backward op reads, and the gradients that it returns.

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty_strided.h>

#include <optional>
#include <vector>

#include "checks.h"
#include "layout.h"

namespace dfad {

inline int64_t bytes_of_bits(int64_t bits) { return (bits + 7) / 8; }

// Two planes of bits. The second begins at a sector of a GPU's memory, too, so that a warp's bytes do not reach into two.
inline at::Tensor empty_difference_signs(const at::Tensor& student) {
  constexpr int64_t sector = 32;
  const int64_t bytes = bytes_of_bits(student.numel());
  const int64_t plane = (bytes + sector - 1) / sector * sector;
  return at::empty_strided({2, bytes}, {plane, 1}, student.options().dtype(at::kByte));
}

// Checks what the backward op is given. The gradients are those whose dtypes are given, in the student's memory order,
// which is that of the signs.
inline std::vector<at::Tensor> empty_l1_gradients(
    const char* op, const at::Tensor& grad, const at::Tensor& signs, at::IntArrayRef size, at::IntArrayRef stride,
    std::optional<at::ScalarType> student, std::optional<at::ScalarType> teacher, Reduction reduction) {
  check_difference_signs(op, signs, bytes_of_bits(c10::multiply_integers(size)));
  check_grad(op, grad, signs.device(), size, reduction);
  std::vector<at::Tensor> grads;
  // Without memory: the strides of a tensor like the student are wanted, and nothing else of it.
  const Dims dense = dense_strides(at::empty_strided(size, stride, grad.options().device(at::kMeta)));
  for (const auto& dtype : {student, teacher}) {
    if (dtype) grads.push_back(at::empty_strided(size, dense, grad.options().dtype(*dtype)));
  }
  return grads;
}

}  // namespace dfad
