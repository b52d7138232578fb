// What a warp's accesses use of the 32-byte sectors that they move.
#pragma once

#include <cstdint>
#include <string>

#include "machine.h"

namespace ptx {

constexpr std::uint64_t sector_bytes = 32;

void count_sectors(bool wanted);
void count_sectors(Thread& thread, std::uint64_t address, int bytes, bool is_store);

// A request is what the lanes of a warp access by the same execution of an instruction; all are complete then.
void end_block_of_sectors();

// Lines of "kernel<tab>kind<tab>requests<tab>sectors<tab>bytes used"; they are forgotten then. The kind is load or store,
// and "single load" or "single store" where all lanes access one and the same element.
std::string take_sectors();

}  // namespace ptx
