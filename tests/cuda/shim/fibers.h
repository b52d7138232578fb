// Runs a kernel's blocks one after another, each thread of a block as a fiber. A warp runs until its threads wait at a
// barrier or have ended, then another does; warps and lanes take their turns in a random order that CUDA_SHIM_SEED
// fixes. So what a kernel reads too early, for want of a barrier, is what others have not written yet: shared memory
// starts as NaN. A barrier that some threads never reach ends the process.
#pragma once

#include <cstdint>
#include <cstring>
#include <functional>

#include "launcher.h"

namespace cuda_shim {

constexpr unsigned warp_size = 32;

enum class Status : std::uint8_t { running, at_barrier, at_shuffle, ended };

struct Index {
  unsigned x;
};

inline Index the_grid = {0};  // the blocks of the launch that runs

Index thread_index();
Index block_index();
unsigned lane();

// Waits for the other threads of the block or of the warp.
void meet(Status where);

// Leaves a value for the warp's other lanes, waits for them, and takes the one that `source` has left; its own where
// there is no such lane.
std::uint64_t exchange_bits(unsigned mask, std::uint64_t value, unsigned source);

template <class T>
T exchange(unsigned mask, T value, unsigned source) {
  static_assert(sizeof(T) <= sizeof(std::uint64_t));
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  bits = exchange_bits(mask, bits, source);
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// The kernel is one thread's work, for the fibers; a launcher that was set runs the launch by itself.
int run(const Launch& launch, const std::function<void()>& kernel);

}  // namespace cuda_shim
