#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/SmallVector.h>

namespace dfad {

using Dims = c10::SmallVector<int64_t, 6>;

// The strides of at::empty_like(x): its own where x is dense, else the nearest dense ones.
Dims dense_strides(const at::Tensor& x);

// One loop over several tensors of equal sizes, in the memory order of a dense tensor: neighbouring dimensions are
// merged where every tensor allows it. Tensors that are dense with equal strides become one dimension of stride 1.
class Layout {
 public:
  // `order` are the dense strides that the loop follows, so that element i of the loop is element i in memory there.
  Layout(at::IntArrayRef sizes, at::IntArrayRef order, at::ArrayRef<at::IntArrayRef> strides);

  at::IntArrayRef sizes() const { return sizes_; }
  const int64_t* strides(size_t tensor) const { return strides_[tensor].data(); }

 private:
  c10::SmallVector<Dims, 5> strides_;
  Dims sizes_;
};

}  // namespace dfad
