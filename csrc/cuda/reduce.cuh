#pragma once

// Sums in a fixed order: each block writes the sum of one chunk, whose size does not depend on the grid, and one more
// block adds those. No atomics, so that every run gives the same bits.

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <algorithm>

#include "launch.h"
#include "vector.h"

namespace dfad::cuda {

// The sum of the block's values, on its first thread.
static __device__ double block_sum(double value) {
  constexpr int warp = 32;
  __shared__ double sums[threads / warp];
  for (int distance = warp / 2; distance > 0; distance /= 2) {
    value += __shfl_down_sync(0xffffffffu, value, distance);
  }
  if (threadIdx.x % warp == 0) sums[threadIdx.x / warp] = value;
  __syncthreads();
  double total = 0;
  if (threadIdx.x == 0) {
    for (int i = 0; i < threads / warp; ++i) total += sums[i];
  }
  __syncthreads();  // the first thread has read: the next sum may overwrite
  return total;
}

// Where the sums of chunks go: to `partials`, or, where there is one chunk only, as the result to `out`.
struct SumTarget {
  double* partials;
  void* out;
  at::ScalarType dtype;

  __device__ void write(int64_t chunk, double sum) const {
    if (partials != nullptr) {
      partials[chunk] = sum;
    } else {
      store_one(out, dtype, 0, sum);
    }
  }
};

// Parts of an array that are summed each by one block; out[first + block] = scale * sum.
struct Segments {
  static constexpr int capacity = 128;

  int64_t begins[capacity + 1];
  double scales[capacity];
};

static __global__ void __launch_bounds__(threads)
    sum_segments(const double* values, const __grid_constant__ Segments segments, void* out, at::ScalarType dtype, int64_t first) {
  const int64_t end = segments.begins[blockIdx.x + 1];
  double sum = 0;
  for (int64_t i = segments.begins[blockIdx.x] + threadIdx.x; i < end; i += threads) sum += values[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) store_one(out, dtype, first + blockIdx.x, sum * segments.scales[blockIdx.x]);
}

// A 0-dim tensor that becomes the sum over all chunks.
class Total {
 public:
  Total(int64_t chunks, at::ScalarType dtype, const at::TensorOptions& options)
      : chunks_(chunks), out_(at::empty({}, options.dtype(dtype))) {
    if (chunks > 1) partials_ = at::empty({chunks}, options.dtype(at::kDouble));
  }

  SumTarget target() const {
    double* partials = partials_.defined() ? partials_.mutable_data_ptr<double>() : nullptr;
    return {partials, out_.mutable_data_ptr(), out_.scalar_type()};
  }

  // After the launches that write the chunks' sums.
  at::Tensor finish() const {
    if (chunks_ > 1) {
      Segments all = {};
      all.begins[1] = chunks_;
      all.scales[0] = 1;
      launch(sum_segments, 1, partials_.const_data_ptr<double>(), all, out_.mutable_data_ptr(), out_.scalar_type(), 0);
    }
    return out_;
  }

 private:
  int64_t chunks_;
  at::Tensor out_;
  at::Tensor partials_;
};

}  // namespace dfad::cuda
