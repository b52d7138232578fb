#include "layout.h"

#include <ATen/ExpandUtils.h>
#include <ATen/ops/empty_strided.h>

#include <algorithm>

namespace dfad {
namespace {

bool same_strides(at::IntArrayRef sizes, at::IntArrayRef a, at::IntArrayRef b) {
  for (size_t d = 0; d < sizes.size(); ++d) {
    if (sizes[d] != 1 && a[d] != b[d]) return false;
  }
  return true;
}

// Whether dense strides are without gaps even here, where a dimension may have been left out of them.
bool without_gaps(at::IntArrayRef sizes, at::IntArrayRef dense) {
  int64_t last = 0;
  for (size_t d = 0; d < sizes.size(); ++d) last += (sizes[d] - 1) * dense[d];
  return last + 1 == c10::multiply_integers(sizes);
}

}  // namespace

Dims dense_strides(const at::Tensor& x) {
  if (x.is_non_overlapping_and_dense()) return Dims(x.strides().begin(), x.strides().end());
  const auto inferred = at::infer_dense_strides(x.sizes(), x.strides());
  return Dims(inferred.begin(), inferred.end());
}

at::Tensor laid_out(const at::Tensor& x, at::IntArrayRef strides) {
  if (same_strides(x.sizes(), x.strides(), strides)) return x;
  return at::empty_strided(x.sizes(), strides, x.options()).copy_(x);
}

Layout::Layout(at::IntArrayRef sizes, at::IntArrayRef order, at::ArrayRef<at::IntArrayRef> strides)
    : strides_(strides.size()) {
  const auto follows = [&](at::IntArrayRef other) { return same_strides(sizes, order, other); };
  const int64_t elements = c10::multiply_integers(sizes);
  if (elements == 0 || (without_gaps(sizes, order) && std::all_of(strides.begin(), strides.end(), follows))) {
    sizes_.push_back(elements);
    for (auto& merged : strides_) merged.push_back(1);
    return;
  }

  Dims dims;
  for (size_t d = 0; d < sizes.size(); ++d) {
    if (sizes[d] != 1) dims.push_back(static_cast<int64_t>(d));
  }
  std::stable_sort(dims.begin(), dims.end(), [&](int64_t a, int64_t b) { return order[a] > order[b]; });

  for (const int64_t d : dims) {
    bool merges = !sizes_.empty();
    for (size_t i = 0; merges && i < strides.size(); ++i) merges = strides_[i].back() == strides[i][d] * sizes[d];
    if (merges) {
      sizes_.back() *= sizes[d];
    } else {
      sizes_.push_back(sizes[d]);
    }
    for (size_t i = 0; i < strides.size(); ++i) {
      if (merges) strides_[i].pop_back();
      strides_[i].push_back(strides[i][d]);
    }
  }
}

}  // namespace dfad
