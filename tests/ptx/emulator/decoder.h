// One statement's text as an instruction.
#pragma once

#include <string>

#include "names.h"
#include "program.h"

namespace ptx {

Instruction decode(const std::string& statement, const Names& names);

}  // namespace ptx
