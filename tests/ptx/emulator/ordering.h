// What orders accesses of different blocks: a fence and an atomic operation in the one, then an atomic operation on the
// same address and a fence in the other.
#pragma once

#include <cstdint>

#include "machine.h"

namespace ptx {

void begin_launch_of_ordering();
void begin_block_of_ordering();

void note_fence(Thread& thread);
void note_atomic_at(const Thread& thread, std::uint64_t address);

// Whether the access of an earlier block is seen by that of this one.
bool is_before_by_fences(const Cell::Access& earlier, const Cell::Access& now);

}  // namespace ptx
