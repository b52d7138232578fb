#pragma once

// The ops' checks; dfad_fast/ops/_checks.py repeats their texts word for word.

#include <ATen/core/Tensor.h>

#include <string>
#include <string_view>
#include <vector>

#include "reduction.h"

namespace dfad {

Reduction check_reduction(const char* op, std::string_view reduction);

void check_margin(const char* op, double margin);

// Dtypes, shapes and devices of one student/teacher pair; `stage` is its index as text, such as "[1]".
void check_pair(const char* op, const at::Tensor& student, const at::Tensor& teacher, const std::string& stage = "");

void check_stages(
    const char* op, at::TensorList student, at::TensorList teacher, at::ArrayRef<double> weights);

// The loss's gradient, as it comes to a backward op: of the student's shape for `none`, else one number.
void check_grad(const char* op, const at::Tensor& grad, const at::Tensor& student, Reduction reduction);

// Everything about a mixture but the values of `perm`.
void check_mixing(const char* op, at::TensorList tensors, const at::Tensor& lam, const at::Tensor& perm);

// The inverse of a permutation that lies on the CPU; throws where it is none.
std::vector<int64_t> checked_inverse(const char* op, const at::Tensor& perm);

}  // namespace dfad
