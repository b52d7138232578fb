// What the lanes of a warp do together: shuffles, sums, votes, matrices.
#pragma once

#include <array>
#include <cstdint>

#include "machine.h"

namespace ptx {

using Lanes = std::array<Thread*, warp_size>;

// For the lanes in the mask.
void execute_together(const Lanes& lanes, std::uint32_t active, const Instruction& instruction);

}  // namespace ptx
