#pragma once

#include <ATen/core/Tensor.h>

#include "vector.h"

namespace dfad::cuda {

// The loss's gradient where it is one number, read on the device so that nobody waits for it.
struct Scale {
  const void* grad;  // null where there is one gradient per element
  at::ScalarType dtype;

  __device__ __forceinline__ double times(double factor) const {
    return grad == nullptr ? 1.0 : load_one<double>(grad, dtype, 0) * factor;
  }
};

inline Scale scale_of(const at::Tensor& grad, bool per_element) {
  return {per_element ? nullptr : grad.const_data_ptr(), grad.scalar_type()};
}

}  // namespace dfad::cuda
