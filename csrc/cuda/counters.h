#pragma once

#include <ATen/core/Tensor.h>

namespace dfad::cuda {

// Where one launch counts its blocks: 0 before it, and set back to 0 by it.
struct Counter {
  unsigned* data = nullptr;
  at::Tensor own;  // lives until the launch, where the counter is no lasting one
};

// A counter for the next launch on the current stream. No launch that may run at the same time has it.
Counter take_counter(const at::TensorOptions& options);

}  // namespace dfad::cuda
