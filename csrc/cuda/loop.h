#pragma once

#include <c10/core/ScalarType.h>

#include <cstdint>

namespace dfad::cuda {

// After merging; operands that need more are copied into a dense order first.
constexpr int max_dims = 5;

// A loop over operands of equal sizes, as a kernel's argument. An operand without data is not there: it reads as zero,
// and what is written to it is dropped.
template <int operands>
struct Loop {
  int64_t elements;
  int64_t sizes[max_dims];
  int64_t strides[operands][max_dims];
  int64_t outer[operands];  // stride of the dimension that was left out of the loop, if one was
  void* data[operands];
  at::ScalarType dtypes[operands];
  int8_t dims;
  int8_t unit;  // neighbors that one access moves of every operand; more than 1 only where all are dense and alike
};

}  // namespace dfad::cuda
