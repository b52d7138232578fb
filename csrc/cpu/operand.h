#pragma once

#include <ATen/core/Tensor.h>

#include "../layout.h"
#include "kernels.h"

namespace dfad::cpu {

inline Dtype dtype_of(const at::Tensor& x) {
  switch (x.scalar_type()) {
    case at::kDouble: return Dtype::f64;
    case at::kHalf: return Dtype::f16;
    case at::kBFloat16: return Dtype::bf16;
    default: return Dtype::f32;
  }
}

// `offset` in elements; the strides must outlive the operand.
inline Operand operand_of(const at::Tensor& x, const int64_t* strides, int64_t offset = 0) {
  char* data = static_cast<char*>(const_cast<void*>(x.const_data_ptr()));
  return {data + offset * static_cast<int64_t>(x.element_size()), strides, dtype_of(x)};
}

inline Shape shape_of(const Layout& layout) {
  return {static_cast<int64_t>(layout.sizes().size()), layout.sizes().data()};
}

}  // namespace dfad::cpu
