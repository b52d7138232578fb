#pragma once

// What the ops that mix rows of a batch share: row i goes with row partner[i], with the weights lam[i] and 1 - lam.

#include "../checks.h"
#include "launch.h"
#include "operands.h"

#include <ATen/ops/empty.h>

namespace dfad::cuda {

struct Mixing {
  const int64_t* partner;
  int64_t partner_stride;
  const void* lam;  // null where `shared_lam` is the weight of all rows
  at::ScalarType lam_dtype;
  int64_t lam_stride;
  double shared_lam;
  int64_t batch;

  // The partner's row, or -1 where the index is out of range: nobody looked at the indices before.
  __device__ __forceinline__ int64_t partner_of(int64_t row) const {
    const int64_t index = partner[row * partner_stride];
    return index >= 0 && index < batch ? index : -1;
  }

  __device__ __forceinline__ double lam_of(int64_t row) const {
    return lam == nullptr ? shared_lam : load_one<double>(lam, lam_dtype, row * lam_stride);
  }
};

// `partner` is perm or its inverse.
inline Mixing mixing_of(const at::Tensor& lam, const at::Tensor& partner) {
  Mixing mixing = {};
  mixing.batch = partner.numel();
  mixing.partner = partner.const_data_ptr<int64_t>();
  mixing.partner_stride = partner.stride(0);
  mixing.lam_dtype = lam.scalar_type();
  if (lam.device().is_cpu() && lam.dim() == 0) {
    mixing.shared_lam = load_one<double>(lam.const_data_ptr(), mixing.lam_dtype, 0);
  } else {
    mixing.lam = lam.const_data_ptr();
    mixing.lam_stride = lam.dim() == 0 ? 0 : lam.stride(0);
  }
  return mixing;
}

// One block. Rows that no row is mapped to, which a permutation does not have, stay out of range; where an index
// is repeated, one of its rows is taken.
static __global__ void __launch_bounds__(threads)
    invert(const int64_t* perm, int64_t stride, int64_t batch, int64_t* inverse) {
  for (int64_t i = threadIdx.x; i < batch; i += threads) inverse[i] = -1;
  __syncthreads();
  for (int64_t i = threadIdx.x; i < batch; i += threads) {
    const int64_t target = perm[i * stride];
    if (target >= 0 && target < batch) inverse[target] = i;
  }
}

inline at::Tensor inverse_of(const at::Tensor& perm) {
  at::Tensor inverse = at::empty(perm.sizes(), perm.options());
  launch(invert, 1, perm.const_data_ptr<int64_t>(), perm.stride(0), perm.numel(), inverse.mutable_data_ptr<int64_t>());
  return inverse;
}

// A row's elements are dealt out in vectors of `width`; a chunk is a number of vectors, of one row or of many.
constexpr int row_vectors_per_thread = 4;

constexpr int64_t row_chunks(int64_t batch, int64_t row_elements, int width) {
  return ceil_div(batch * ceil_div(row_elements, width), int64_t{threads} * row_vectors_per_thread);
}

// Calls body(row, begin) for this thread's vectors of a chunk.
template <int width, class Body>
__device__ __forceinline__ void for_each_row_vector(
    int64_t batch, int64_t row_elements, int64_t chunk, const Body& body) {
  const int64_t per_row = ceil_div(row_elements, width);
  const int64_t total = batch * per_row;
  const int64_t first = chunk * threads * row_vectors_per_thread + threadIdx.x;
  for (int i = 0; i < row_vectors_per_thread; ++i) {
    const int64_t vector = first + int64_t{i} * threads;
    if (vector >= total) return;
    const int64_t row = total <= UINT32_MAX
        ? static_cast<uint32_t>(vector) / static_cast<uint32_t>(per_row)
        : vector / per_row;
    body(row, (vector - row * per_row) * width);
  }
}

}  // namespace dfad::cuda
