#pragma once

// Sums in a fixed order, in one launch: each block writes the sum of one chunk, whose size does not depend on the grid,
// and the block that is done last adds those. Atomic operations only count blocks. Whoever is last adds the same numbers
// in the same order, so that every run gives the same bits.

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include "counters.h"
#include "launch.h"
#include "vector.h"

namespace dfad::cuda {

// The sum of the warp's values, on its first lane.
static __device__ __forceinline__ double warp_sum(double value) {
  for (int distance = warp / 2; distance > 0; distance /= 2) {
    value += __shfl_down_sync(0xffffffffu, value, distance);
  }
  return value;
}

// The sum of the block's values, on its first thread.
static __device__ double block_sum(double value) {
  __shared__ double sums[threads / warp];
  value = warp_sum(value);
  if (threadIdx.x % warp == 0) sums[threadIdx.x / warp] = value;
  __syncthreads();
  double total = 0;
  if (threadIdx.x == 0) {
    for (int i = 0; i < threads / warp; ++i) total += sums[i];
  }
  __syncthreads();  // the first thread has read: the next sum may overwrite
  return total;
}

// Whether the grid's other blocks have all been here, for every thread of the block. It then sees what their first threads
// wrote before that: a fence on either side of the counting orders the one before the other. The counter wraps to 0.
static __device__ __forceinline__ bool is_last_block(unsigned* counter) {
  __shared__ bool last;
  if (threadIdx.x == 0) {
    const unsigned others = gridDim.x - 1;
    __threadfence();
    last = atomicInc(counter, others) == others;
    __threadfence();
  }
  __syncthreads();
  return last;
}

// Where blocks put the sums of their chunks: to `partials`, or, where there is one only, as the result to `out`.
struct SumTarget {
  double* partials;
  int64_t first;      // of this launch's chunks, after those of earlier launches
  unsigned* counter;  // null where the launch has nothing to do after its blocks' sums
  void* out;
  at::ScalarType dtype;

  // On the block's first thread.
  __device__ void write(double sum) const {
    if (partials != nullptr) {
      partials[first + blockIdx.x] = sum;
    } else {
      store_one(out, dtype, 0, sum);
    }
  }

  // On all threads of the last block.
  __device__ void finish() const {
    if (partials == nullptr) return;
    const int64_t chunks = first + gridDim.x;
    double sum = 0;
    for (int64_t i = threadIdx.x; i < chunks; i += threads) sum += partials[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) store_one(out, dtype, 0, sum);
  }

  // On all threads of each block, of which the first has the sum.
  __device__ void add(double sum) const {
    if (threadIdx.x == 0) write(sum);
    if (counter != nullptr && is_last_block(counter)) finish();
  }
};

// A 0-dim tensor that becomes the sum over all chunks.
class Total {
 public:
  Total(int64_t chunks, at::ScalarType dtype, const at::TensorOptions& options)
      : out_(at::empty({}, options.dtype(dtype))) {
    if (chunks == 1) return;
    partials_ = at::empty({chunks}, options.dtype(at::kDouble));
    counter_ = take_counter(options);
  }

  // For one of several launches: how many chunks the earlier ones had. Each makes the sum up to its own last chunk.
  SumTarget target(int64_t first = 0) const {
    double* partials = partials_.defined() ? partials_.mutable_data_ptr<double>() : nullptr;
    return {partials, first, counter_.data, out_.mutable_data_ptr(), out_.scalar_type()};
  }

  const at::Tensor& out() const { return out_; }

 private:
  at::Tensor out_;
  at::Tensor partials_;
  Counter counter_;
};

}  // namespace dfad::cuda
