// Kernels registered for CUDA are registered for the CPU, where the shim runs them.
#pragma once

#include_next <torch/library.h>

#undef TORCH_LIBRARY_IMPL
#define TORCH_LIBRARY_IMPL(ns, key, m) _TORCH_LIBRARY_IMPL(ns, CPU, m, C10_UID)
