// What ends a launch: PTX that the emulator does not know, or a kernel that cannot go on.
#pragma once

#include <stdexcept>
#include <string>

namespace ptx {

[[noreturn]] inline void fail(const std::string& message) {
  throw std::runtime_error(message);
}

}  // namespace ptx
