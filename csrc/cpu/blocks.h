#pragma once

#include <ATen/Parallel.h>

#include <cstdint>

namespace dfad::cpu {

// Elements per block. Partial sums are one per block and added in order, so a sum does not depend on the threads.
constexpr int64_t block_size = 16384;

// Below this many elements, starting threads costs more than they save.
constexpr int64_t parallel_threshold = 65536;

inline int64_t blocks_in(int64_t elements) {
  return (elements + block_size - 1) / block_size;
}

// Calls body(i) for each i < count, on one thread where there is little to do.
template <class Body>
void for_each_block(int64_t count, int64_t elements, const Body& body) {
  if (elements < parallel_threshold) {
    for (int64_t i = 0; i < count; ++i) body(i);
    return;
  }
  at::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) body(i);
  });
}

}  // namespace dfad::cpu
