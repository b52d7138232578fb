// A launch as the host asks for it, and who runs it: the fibers, or what was set in their place.
#pragma once

#include <cstddef>

namespace cuda_shim {

struct Launch {
  const void* kernel;  // the address of the host's function
  unsigned blocks;
  unsigned threads;
  std::size_t dynamic_shared;
  std::size_t count;  // of the arguments
  const void* const* arguments;
  const std::size_t* bytes;
};

// Returns 0, or another number after an error.
using Launcher = int (*)(const Launch& launch);

}  // namespace cuda_shim

#define CUDA_SHIM_EXPORT extern "C" __attribute__((visibility("default")))

CUDA_SHIM_EXPORT void cuda_shim_set_launcher(cuda_shim::Launcher launcher);

// Since the library was loaded.
CUDA_SHIM_EXPORT unsigned long long cuda_shim_launches();
