#include "layout.h"

#include <algorithm>

namespace dfad::cpu {

Dtype dtype_of(const at::Tensor& x) {
  switch (x.scalar_type()) {
    case at::kDouble: return Dtype::f64;
    case at::kHalf: return Dtype::f16;
    case at::kBFloat16: return Dtype::bf16;
    default: return Dtype::f32;
  }
}

Operand operand_of(const at::Tensor& x, const int64_t* strides) {
  return {const_cast<void*>(x.const_data_ptr()), strides, dtype_of(x)};
}

Layout::Layout(at::ArrayRef<const at::Tensor*> tensors, int64_t first_dim) : strides_(tensors.size()) {
  if (first_dim == 0 && merge_all(tensors)) return;

  const at::Tensor& first = *tensors[0];
  c10::SmallVector<int64_t, 6> order;
  for (int64_t d = first_dim; d < first.dim(); ++d) {
    if (first.size(d) != 1) order.push_back(d);
  }
  std::stable_sort(
      order.begin(), order.end(), [&](int64_t a, int64_t b) { return first.stride(a) > first.stride(b); });

  for (const int64_t d : order) {
    const bool merges = !sizes_.empty() && [&] {
      for (size_t i = 0; i < tensors.size(); ++i) {
        if (strides_[i].back() != tensors[i]->stride(d) * first.size(d)) return false;
      }
      return true;
    }();
    if (merges) {
      sizes_.back() *= first.size(d);
    } else {
      sizes_.push_back(first.size(d));
    }
    for (size_t i = 0; i < tensors.size(); ++i) {
      if (merges) strides_[i].pop_back();
      strides_[i].push_back(tensors[i]->stride(d));
    }
  }
  if (sizes_.empty()) {
    sizes_.push_back(1);
    for (auto& strides : strides_) strides.push_back(1);
  }
}

bool Layout::merge_all(at::ArrayRef<const at::Tensor*> tensors) {
  const at::Tensor& first = *tensors[0];
  const bool contiguous = std::all_of(
      tensors.begin(), tensors.end(), [](const at::Tensor* x) { return x->is_contiguous(); });
  const bool equal = contiguous || (first.is_non_overlapping_and_dense() &&
      std::all_of(tensors.begin(), tensors.end(), [&](const at::Tensor* x) { return x->strides() == first.strides(); }));
  if (!equal) return false;
  sizes_.push_back(first.numel());
  for (auto& strides : strides_) strides.push_back(1);
  return true;
}

}  // namespace dfad::cpu
