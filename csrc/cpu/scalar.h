#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>

namespace dfad::cpu {

// One element of a floating-point tensor, at a storage position relative to its first element.
inline double read_scalar(const at::Tensor& x, int64_t position = 0) {
  switch (x.scalar_type()) {
    case at::kDouble: return x.const_data_ptr<double>()[position];
    case at::kFloat: return x.const_data_ptr<float>()[position];
    case at::kHalf: return x.const_data_ptr<at::Half>()[position];
    case at::kBFloat16: return x.const_data_ptr<at::BFloat16>()[position];
    default: TORCH_CHECK_TYPE(false, "expected a floating-point tensor, got ", x.scalar_type());
  }
}

inline at::Tensor scalar_tensor(double value, at::ScalarType dtype) {
  at::Tensor out = at::empty({}, at::TensorOptions().dtype(dtype));
  switch (dtype) {
    case at::kDouble: *out.mutable_data_ptr<double>() = value; break;
    case at::kFloat: *out.mutable_data_ptr<float>() = static_cast<float>(value); break;
    case at::kHalf: *out.mutable_data_ptr<at::Half>() = static_cast<float>(value); break;
    case at::kBFloat16: *out.mutable_data_ptr<at::BFloat16>() = static_cast<float>(value); break;
    default: TORCH_CHECK_TYPE(false, "expected a floating-point dtype, got ", dtype);
  }
  return out;
}

}  // namespace dfad::cpu
