#pragma once

// Where the elements of a loop lie, on the device.

#include <cuda_runtime.h>

#include "loop.h"

namespace dfad::cuda {

// a / b of numbers up to `most`. 32-bit division is several times as fast as 64-bit.
__device__ __forceinline__ int64_t quotient(int64_t a, int64_t b, int64_t most) {
  return most <= UINT32_MAX ? static_cast<uint32_t>(a) / static_cast<uint32_t>(b) : a / b;
}

// Offsets of the k-th element of each operand.
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
