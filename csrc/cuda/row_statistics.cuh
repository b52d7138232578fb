#pragma once

// What KL's forward leaves to backward of each row, on its way to memory and back.

#include <cstdint>

#include "launch.h"

namespace dfad::cuda {

template <class S>
constexpr int rows_of_block = threads / S::lanes;

// Maximum and logarithm of student and teacher, and the divergence.
constexpr int statistics_of_row = 5;

// Those of a thread's row. In memory each statistic of all rows is one run. Where a warp has so few rows that one of
// theirs fills only a part of a sector, the block's threads move those of its rows, neighbors in memory by neighbors,
// and pass them on in shared memory.
template <class A, class S>
struct RowStatistics {
  static constexpr bool shared = warp / S::lanes * sizeof(float) < 32;
  static_assert(!shared || statistics_of_row * rows_of_block<S> <= threads);

  int64_t rows, row;
  A values[statistics_of_row];

  // Begins what `arrive` ends, so that other loads can be on their way too. For all threads of the block if these pass
  // statistics on, else for those whose row is there.
  __device__ __forceinline__ void load(const A* statistics) {
    if constexpr (shared) {
      if (moves()) values[0] = statistics[place()];
    } else {
#pragma unroll
      for (int k = 0; k < statistics_of_row; ++k) values[k] = statistics[k * rows + row];
    }
  }

  // For all threads of the block.
  __device__ __forceinline__ void arrive() {
    if constexpr (shared) {
      A* const of_block = shared_values();
      if (moves()) of_block[threadIdx.x] = values[0];
      __syncthreads();
#pragma unroll
      for (int k = 0; k < statistics_of_row; ++k) {
        if (row < rows) values[k] = of_block[k * rows_of_block<S> + own()];
      }
    }
  }

  // For a thread that has its row's values; `leave` ends it, for all threads of the block.
  __device__ __forceinline__ void store(A* statistics) const {
    A* const to = shared ? shared_values() + own() : statistics + row;
#pragma unroll
    for (int k = 0; k < statistics_of_row; ++k) to[k * (shared ? rows_of_block<S> : rows)] = values[k];
  }

  __device__ __forceinline__ void leave(A* statistics) const {
    if constexpr (shared) {
      __syncthreads();
      if (moves()) statistics[place()] = shared_values()[threadIdx.x];
    }
  }

  static __device__ __forceinline__ A* shared_values() {
    __shared__ A of_block[statistics_of_row * rows_of_block<S>];
    return of_block;
  }

  static __device__ __forceinline__ int own() { return static_cast<int>(threadIdx.x) / S::lanes; }

  // The row whose number this thread moves, and that number's place.
  static __device__ __forceinline__ int64_t moved_row() {
    return int64_t{blockIdx.x} * rows_of_block<S> + threadIdx.x % rows_of_block<S>;
  }
  __device__ __forceinline__ int64_t place() const { return threadIdx.x / rows_of_block<S> * rows + moved_row(); }
  __device__ __forceinline__ bool moves() const {
    return threadIdx.x < statistics_of_row * rows_of_block<S> && moved_row() < rows;
  }
};

}  // namespace dfad::cuda
