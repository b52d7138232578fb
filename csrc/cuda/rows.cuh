#pragma once

// What the ops that mix rows of a batch share: row i goes with row partner[i], with the weights lam[i] and 1 - lam.

#include "../checks.h"
#include "operands.h"
#include "tiles.cuh"

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

// The rows of a batch, one after another; a loop covers one of them.
struct Rows {
  int64_t batch;
  int64_t elements;  // of a row

  DFAD_HD int64_t all() const { return batch * elements; }
  DFAD_HD int64_t chunks() const { return chunks_of(all()); }

  __device__ __forceinline__ int64_t row_of(int64_t k) const {
    return quotient(k, elements, all());
  }
};

// Where an element of the row `rows[n]` of each operand lies, the same of all of them.
template <class AnyWay, int operands>
__device__ __forceinline__ void offsets_in_rows(
    AnyWay way, const Loop<operands>& loop, int64_t column, const int64_t (&rows)[operands], int64_t (&offsets)[operands]) {
  offsets_of(way, loop, column, offsets);
#pragma unroll
  for (int n = 0; n < operands; ++n) offsets[n] += rows[n] * loop.outer[n];
}

}  // namespace dfad::cuda
