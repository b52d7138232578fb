#pragma once

#include <string>
#include <vector>

#include "kernels.h"

namespace dfad::cpu {

// The kernels of the tier in use: the widest that CPU and operating system support, unless set_tier chose another.
const Kernels& active_kernels();

std::string tier();

// Names of the tiers that this CPU can run, narrowest first.
std::vector<std::string> supported_tiers();

// Throws std::invalid_argument for an unknown name or a tier that this CPU lacks.
void set_tier(const std::string& name);

}  // namespace dfad::cpu
