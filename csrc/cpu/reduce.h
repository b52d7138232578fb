#pragma once

#include <ATen/core/Tensor.h>

#include "../reduction.h"
#include "scalar.h"

namespace dfad::cpu {

inline double reduced(Reduction reduction, double sum, int64_t count) {
  return reduction == Reduction::mean ? sum / static_cast<double>(count) : sum;
}

// What the gradient of a reduced loss gives to each of its `count` terms; 1 for `none`, whose terms have their own.
inline double gradient_scale(Reduction reduction, const at::Tensor& grad, int64_t count) {
  return reduction == Reduction::none ? 1.0 : reduced(reduction, read_scalar(grad), count);
}

}  // namespace dfad::cpu
