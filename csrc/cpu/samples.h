#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <vector>

#include "blocks.h"
#include "operand.h"
#include "scalar.h"

namespace dfad::cpu {

// How sample i is mixed: own[i] * x[i] + other[i] * x[partner[i]].
struct Mixing {
  std::vector<double> own;
  std::vector<double> other;
  std::vector<int64_t> partner;

  template <class A>
  Mixture<A> weights(int64_t i) const {
    return {static_cast<A>(own[i]), static_cast<A>(other[i])};
  }
};

inline std::vector<double> lam_values(const at::Tensor& lam, int64_t batch) {
  std::vector<double> values(batch);
  for (int64_t i = 0; i < batch; ++i) values[i] = read_scalar(lam, lam.dim() == 0 ? 0 : i * lam.stride(0));
  return values;
}

// By the permutation itself, which was checked.
inline Mixing forward_mixing(const at::Tensor& lam, const at::Tensor& perm) {
  const int64_t batch = perm.numel();
  Mixing mixing = {lam_values(lam, batch), std::vector<double>(batch), std::vector<int64_t>(batch)};
  for (int64_t i = 0; i < batch; ++i) {
    mixing.other[i] = 1.0 - mixing.own[i];
    mixing.partner[i] = perm.const_data_ptr<int64_t>()[i * perm.stride(0)];
  }
  return mixing;
}

// Mixes gradients, by the inverse permutation.
inline Mixing backward_mixing(const at::Tensor& lam, std::vector<int64_t> inverse) {
  const int64_t batch = static_cast<int64_t>(inverse.size());
  Mixing mixing = {lam_values(lam, batch), std::vector<double>(batch), std::move(inverse)};
  for (int64_t i = 0; i < batch; ++i) mixing.other[i] = 1.0 - mixing.own[mixing.partner[i]];
  return mixing;
}

// Batches of one shape that are looped over together, sample by sample.
class Samples {
 public:
  // The loop over a sample follows the memory order of `like`.
  Samples(const at::Tensor& like, at::ArrayRef<const at::Tensor*> tensors)
      : elements_(like.size(0) == 0 ? 0 : like.numel() / like.size(0)),
        tensors_(tensors.begin(), tensors.end()),
        layout_(make_layout(like, tensors)) {}

  int64_t elements() const { return elements_; }
  int64_t blocks() const { return blocks_in(elements_); }
  Shape shape() const { return shape_of(layout_); }

  Range range(int64_t block) const {
    const int64_t begin = block * block_size;
    return {begin, std::min(begin + block_size, elements_)};
  }

  Operand operand(size_t tensor, int64_t sample) const {
    const at::Tensor& x = *tensors_[tensor];
    return operand_of(x, layout_.strides(tensor), sample * x.stride(0));
  }

 private:
  static Layout make_layout(const at::Tensor& like, at::ArrayRef<const at::Tensor*> tensors) {
    c10::SmallVector<at::IntArrayRef, 5> strides;
    for (const at::Tensor* x : tensors) strides.push_back(x->strides().slice(1));
    const Dims order = dense_strides(like);
    return Layout(like.sizes().slice(1), at::IntArrayRef(order).slice(1), strides);
  }

  int64_t elements_;
  c10::SmallVector<const at::Tensor*, 5> tensors_;
  Layout layout_;
};

}  // namespace dfad::cpu
