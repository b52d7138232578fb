#pragma once

#include <c10/core/ScalarType.h>

#include <cstdint>

namespace dfad::cuda {

// After merging; operands that need more are copied into a dense order first.
constexpr int max_dims = 5;

// A loop over operands of equal sizes, as a kernel's argument. An operand without data is not there: it reads as zero,
// and what is written to it is dropped.
template <int operands>
struct Loop {
  int64_t elements;
  int64_t sizes[max_dims];
  int64_t strides[operands][max_dims];
  int64_t outer[operands];  // stride of the dimension that was left out of the loop, if one was
  void* data[operands];
  at::ScalarType dtypes[operands];
  int8_t dims;
  int8_t unit;  // neighbors that one access moves of every operand; more than 1 only where all are dense and alike
};

// Offsets of the k-th element of each operand. 32-bit division is several times as fast as 64-bit.
template <class Index, int operands>
__device__ __forceinline__ void offsets_by(const Loop<operands>& loop, Index k, int64_t (&offsets)[operands]) {
#pragma unroll
  for (int n = 0; n < operands; ++n) offsets[n] = 0;
#pragma unroll
  for (int d = max_dims - 1; d > 0; --d) {
    if (d >= loop.dims) continue;
    const Index size = static_cast<Index>(loop.sizes[d]);
    const Index rest = k / size;
    const int64_t index = static_cast<int64_t>(k - rest * size);
#pragma unroll
    for (int n = 0; n < operands; ++n) offsets[n] += index * loop.strides[n][d];
    k = rest;
  }
#pragma unroll
  for (int n = 0; n < operands; ++n) offsets[n] += static_cast<int64_t>(k) * loop.strides[n][0];
}

template <int operands>
__device__ __forceinline__ void offsets_of(const Loop<operands>& loop, int64_t k, int64_t (&offsets)[operands]) {
  if (loop.elements <= UINT32_MAX) {
    offsets_by(loop, static_cast<uint32_t>(k), offsets);
  } else {
    offsets_by(loop, static_cast<uint64_t>(k), offsets);
  }
}

// How a kernel's copy of the code goes through a loop: by pieces of `unit` neighbors; `flat` where it has one dimension.
template <int unit_, bool flat_>
struct Way {
  static constexpr int unit = unit_;
  static constexpr bool flat = flat_;
};

template <class AnyWay, int operands>
__device__ __forceinline__ void offsets_of(
    AnyWay, const Loop<operands>& loop, int64_t k, int64_t (&offsets)[operands]) {
  if constexpr (AnyWay::flat) {
#pragma unroll
    for (int n = 0; n < operands; ++n) offsets[n] = AnyWay::unit > 1 ? k : k * loop.strides[n][0];
  } else {
    offsets_of(loop, k, offsets);
  }
}

}  // namespace dfad::cuda
