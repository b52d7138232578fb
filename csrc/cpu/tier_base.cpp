// The tier that every CPU of the platform runs.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "kernels.h"

#define DFAD_REGISTER_BYTES 16

namespace dfad::cpu::base {
#include "tier.inl"
}  // namespace dfad::cpu::base
