// Reads a module's text: declarations, kernels, and the statements in them.
#pragma once

#include <memory>
#include <string>

#include "program.h"

namespace ptx {

// Fails on what the emulator does not know, by name.
std::unique_ptr<Module> parse(const std::string& text, const std::string& label);

}  // namespace ptx
