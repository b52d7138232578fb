#pragma once

#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAStream.h>
#include <c10/util/Exception.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace dfad::cuda {

// Every block's threads; a multiple of the warp.
constexpr int threads = 256;
constexpr int warp = 32;

constexpr int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

// Runs a kernel on the current stream of the current device.
template <class... Params, class... Args>
void launch(void (*kernel)(Params...), int64_t blocks, const Args&... args) {
  static_assert((0 + ... + sizeof(Params)) <= 4000, "a kernel's arguments are at most 4 KB");
  if (blocks == 0) return;
  TORCH_CHECK(blocks <= INT32_MAX, "dfad_fast: a tensor is too large for one launch, it needs ", blocks, " blocks");
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(threads);
  config.stream = c10::cuda::getCurrentCUDAStream();
  C10_CUDA_CHECK(cudaLaunchKernelEx(&config, kernel, static_cast<Params>(args)...));
}

}  // namespace dfad::cuda
