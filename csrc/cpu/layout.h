#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/SmallVector.h>

#include "kernels.h"

namespace dfad::cpu {

Dtype dtype_of(const at::Tensor& x);

Operand operand_of(const at::Tensor& x, const int64_t* strides);

// One loop over several tensors of equal sizes: dimensions in the first tensor's memory order, neighbours merged
// where every tensor allows it. Dense tensors with equal strides become a single dimension of stride 1.
class Layout {
 public:
  // `first_dim` leaves leading dimensions out of the loop.
  explicit Layout(at::ArrayRef<const at::Tensor*> tensors, int64_t first_dim = 0);

  Shape shape() const { return {static_cast<int64_t>(sizes_.size()), sizes_.data()}; }
  const int64_t* strides(size_t tensor) const { return strides_[tensor].data(); }

 private:
  using Dims = c10::SmallVector<int64_t, 6>;

  bool merge_all(at::ArrayRef<const at::Tensor*> tensors);

  Dims sizes_;
  c10::SmallVector<Dims, 5> strides_;
};

}  // namespace dfad::cpu
