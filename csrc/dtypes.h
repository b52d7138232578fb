#pragma once

// Which dtypes an op computes in and returns; dfad_fast/ops/_dtypes.py holds the same rules for the references.

#include <ATen/core/Tensor.h>
#include <c10/core/ScalarType.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <optional>

namespace dfad {

// float64 where any input is, else float32: halves are never summed as halves.
template <class... Tensors>
bool computes_in_double(const Tensors&... inputs) {
  return ((inputs.scalar_type() == at::kDouble) || ...);
}

// The dtype of statistics over tensors: float64 where any of them is, else float32.
inline at::ScalarType statistics_dtype(at::TensorList features) {
  const auto is_double = [](const at::Tensor& x) { return x.scalar_type() == at::kDouble; };
  return std::any_of(features.begin(), features.end(), is_double) ? at::kDouble : at::kFloat;
}

// A packed teacher's uint8 promotes to any of them.
inline at::ScalarType result_dtype(at::TensorList a, at::TensorList b, std::optional<at::ScalarType> wanted) {
  if (wanted) {
    TORCH_CHECK_TYPE(
        *wanted == at::kFloat || *wanted == at::kDouble, "dtype must be float32 or float64, got ",
        c10::getDtypeNames(*wanted).first);
    return *wanted;
  }
  at::ScalarType dtype = a[0].scalar_type();
  for (const at::Tensor& x : a) dtype = c10::promoteTypes(dtype, x.scalar_type());
  for (const at::Tensor& x : b) dtype = c10::promoteTypes(dtype, x.scalar_type());
  return dtype;
}

// Under autocast at least float32, as F.l1_loss; float64 is not eligible for autocast and stays.
inline at::ScalarType autocast_dtype(at::TensorList a, at::TensorList b) {
  const auto is_double = [](const at::Tensor& x) { return x.scalar_type() == at::kDouble; };
  const bool any = std::any_of(a.begin(), a.end(), is_double) || std::any_of(b.begin(), b.end(), is_double);
  return any ? at::kDouble : at::kFloat;
}

}  // namespace dfad
