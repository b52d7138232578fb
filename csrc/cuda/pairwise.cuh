#pragma once

// What the losses over whole student/teacher pairs share. A thread handles eight consecutive elements at a time: with
// one bit per element, those of one byte.

#include "launch.h"
#include "operands.h"
#include "scale.cuh"

namespace dfad::cuda {

constexpr int vector_width = 8;
constexpr int vectors_per_thread = 4;
constexpr int64_t chunk_size = int64_t{threads} * vector_width * vectors_per_thread;

// Calls body(begin) for this thread's vectors of a chunk.
template <class Body>
__device__ __forceinline__ void for_each_vector(int64_t elements, int64_t chunk, const Body& body) {
  const int64_t first = chunk * chunk_size + int64_t{threadIdx.x} * vector_width;
  for (int i = 0; i < vectors_per_thread; ++i) {
    const int64_t begin = first + int64_t{i} * threads * vector_width;
    if (begin < elements) body(begin);
  }
}

}  // namespace dfad::cuda
