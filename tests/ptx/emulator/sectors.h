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

// Lines of "kernel<tab>load or store<tab>requests<tab>sectors<tab>bytes used"; they are forgotten then.
std::string take_sectors();

}  // namespace ptx
