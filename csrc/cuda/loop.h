#pragma once

#include <c10/core/ScalarType.h>

#include <cstdint>

#include "vector.h"

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
  bool vectors;  // dense, equal strides, every vector aligned
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

// Calls body(j, in, out) for each of the `width` elements from `begin` on that exist: one thread's work. The operands
// are the outputs, then the inputs; `base` is added to their offsets.
template <class A, int width, int outs, int operands, class Body>
__device__ __forceinline__ void for_vector(
    const Loop<operands>& loop, const int64_t (&base)[operands], int64_t begin, const Body& body) {
  constexpr int ins = operands - outs;
  if (loop.vectors && begin + width <= loop.elements) {
    A values[operands][width] = {};
#pragma unroll
    for (int n = outs; n < operands; ++n) {
      if (loop.data[n] != nullptr) load_vector(loop.data[n], loop.dtypes[n], base[n] + begin, values[n]);
    }
#pragma unroll
    for (int j = 0; j < width; ++j) {
      A in[ins], out[outs] = {};
#pragma unroll
      for (int n = 0; n < ins; ++n) in[n] = values[outs + n][j];
      body(j, in, out);
#pragma unroll
      for (int n = 0; n < outs; ++n) values[n][j] = out[n];
    }
#pragma unroll
    for (int n = 0; n < outs; ++n) {
      if (loop.data[n] != nullptr) store_vector(loop.data[n], loop.dtypes[n], base[n] + begin, values[n]);
    }
    return;
  }
  const int64_t left = loop.elements - begin;
  const int count = left < width ? static_cast<int>(left) : width;
#pragma unroll 1
  for (int j = 0; j < count; ++j) {
    int64_t offsets[operands];
    offsets_of(loop, begin + j, offsets);
    A in[ins], out[outs] = {};
#pragma unroll
    for (int n = 0; n < ins; ++n) {
      const int operand = outs + n;
      in[n] = loop.data[operand] == nullptr
          ? A(0)
          : load_one<A>(loop.data[operand], loop.dtypes[operand], base[operand] + offsets[operand]);
    }
    body(j, in, out);
#pragma unroll
    for (int n = 0; n < outs; ++n) {
      if (loop.data[n] != nullptr) store_one(loop.data[n], loop.dtypes[n], base[n] + offsets[n], out[n]);
    }
  }
}

template <class A, int width, int outs, int operands, class Body>
__device__ __forceinline__ void for_vector(const Loop<operands>& loop, int64_t begin, const Body& body) {
  const int64_t base[operands] = {};
  for_vector<A, width, outs>(loop, base, begin, body);
}

}  // namespace dfad::cuda
