// A grid: its blocks run one after another in a random order.
#pragma once

#include <cstddef>
#include <string>

#include "program.h"

namespace ptx {

struct Arguments {
  std::size_t count;
  const void* const* values;
  const std::size_t* bytes;
};

void launch(
    Module& module, const std::string& kernel, unsigned blocks, unsigned threads, std::size_t dynamic_shared,
    const Arguments& arguments);

}  // namespace ptx
