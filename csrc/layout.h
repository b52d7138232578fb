#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/SmallVector.h>

namespace dfad {

using Dims = c10::SmallVector<int64_t, 6>;

// The strides of at::empty_like(x): its own where x is dense, else the nearest dense ones.
Dims dense_strides(const at::Tensor& x);

// x with these dense strides: itself, or a copy.
at::Tensor laid_out(const at::Tensor& x, at::IntArrayRef strides);

// One loop over several tensors of equal sizes, in the memory order of a dense tensor: neighboring dimensions are
// merged where every tensor allows it. Where all follow the order, and it has no gaps, that is one dimension of stride 1,
// and so it is without elements.
class Layout {
 public:
  // `order` are the strides that the loop follows: of a dense tensor, whole or without one of its dimensions.
  Layout(at::IntArrayRef sizes, at::IntArrayRef order, at::ArrayRef<at::IntArrayRef> strides);

  at::IntArrayRef sizes() const { return sizes_; }
  const int64_t* strides(size_t tensor) const { return strides_[tensor].data(); }

 private:
  c10::SmallVector<Dims, 5> strides_;
  Dims sizes_;
};

}  // namespace dfad
