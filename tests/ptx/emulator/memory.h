// Accesses to memory, each checked: bounds, alignment, races, what was never written.
#pragma once

#include <cstdint>

#include "machine.h"

namespace ptx {

// Global memory is what was allocated; everything else is out of bounds.
void add_allocation(std::uint64_t begin, std::uint64_t bytes);
void remove_allocation(std::uint64_t begin);

std::uint64_t address_of(const Thread& thread, const Instruction& instruction);
void load(Thread& thread, Space space, std::uint64_t address, int bytes, char* values);
void store(Thread& thread, Space space, std::uint64_t address, int bytes, const char* values);

// An atomic operation on global or shared memory: its bytes, for reading and writing, or null where it is out of bounds.
char* atomic_access(Thread& thread, Space space, std::uint64_t address, int bytes);

}  // namespace ptx
