#pragma once

// What the ops that mix rows of a batch share: row i goes with row partner[i], with the weights lam[i] and 1 - lam.

#include "../checks.h"
#include "operands.h"
#include "tiles.cuh"

#include <ATen/ops/full.h>

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

inline Mixing mixing_of(const at::Tensor& lam, const at::Tensor& perm) {
  Mixing mixing = {};
  mixing.batch = perm.numel();
  mixing.partner = perm.const_data_ptr<int64_t>();
  mixing.partner_stride = perm.stride(0);
  mixing.lam_dtype = lam.scalar_type();
  if (lam.device().is_cpu() && lam.dim() == 0) {
    mixing.shared_lam = load_one<double>(lam.const_data_ptr(), mixing.lam_dtype, 0);
  } else {
    mixing.lam = lam.const_data_ptr();
    mixing.lam_stride = lam.dim() == 0 ? 0 : lam.stride(0);
  }
  return mixing;
}

// The largest batch whose inverse each block finds by itself, which saves a launch: it reads all of perm.
constexpr int64_t most_found = 1024;

// The block's. A function, as a pointer in a struct would hide from the compiler that this is shared memory.
static __device__ __forceinline__ int32_t* found_sources() {
  __shared__ int32_t found[most_found];
  return found;
}

// The inverse of perm: the row whose partner a row is. A permutation has one; where rows share a partner it is the last of
// them, so that every run gives the same bits. Without the struct nvcc takes up to 16 registers more per thread.
struct RowSources {
  const int64_t* inverse;  // null where each block has found it by itself

  // -1 where there is none.
  __device__ __forceinline__ int64_t of(int64_t row) const {
    return inverse != nullptr ? inverse[row] : found_sources()[row];
  }
};

// For all threads of a block; `inverse` as inverse_of gave it. Not to be asked where it is not wanted.
static __device__ __forceinline__ RowSources sources_of(const Mixing& mixing, const int64_t* inverse, bool wanted = true) {
  if (!wanted || inverse != nullptr) return {inverse};
  int32_t* const found = found_sources();
  const int mine = static_cast<int>(threadIdx.x);
  for (int64_t i = mine; i < mixing.batch; i += threads) found[i] = -1;
  __syncthreads();
  for (int64_t i = mine; i < mixing.batch; i += threads) {
    const int64_t partner = mixing.partner_of(i);
    if (partner >= 0) atomicMax(found + partner, static_cast<int32_t>(i));
  }
  __syncthreads();
  return {inverse};
}

static __global__ void __launch_bounds__(threads) invert(const __grid_constant__ Mixing mixing, long long* inverse) {
  const int64_t i = int64_t{blockIdx.x} * threads + threadIdx.x;
  if (i >= mixing.batch) return;
  const int64_t partner = mixing.partner_of(i);
  if (partner >= 0) atomicMax(inverse + partner, static_cast<long long>(i));
}

// Undefined where blocks find it by themselves.
inline at::Tensor inverse_of(const Mixing& mixing, const at::TensorOptions& options) {
  if (mixing.batch <= most_found) return {};
  const at::Tensor inverse = at::full({mixing.batch}, -1, options.dtype(at::kLong));
  launch(
      invert, ceil_div(mixing.batch, threads), mixing, reinterpret_cast<long long*>(inverse.mutable_data_ptr<int64_t>()));
  return inverse;
}

inline const int64_t* data_of(const at::Tensor& inverse) {
  return inverse.defined() ? inverse.const_data_ptr<int64_t>() : nullptr;
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
