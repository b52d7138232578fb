// The tier that every CPU of the platform runs.

#include <cmath>
#include <cstdint>
#include <cstring>

#include "kernels.h"

namespace dfad::cpu::base {
#include "convert.inl"
#include "tile.inl"
#include "kernels.inl"
}  // namespace dfad::cpu::base
