// Stands in for the CUDA runtime's header, so that g++ compiles the kernels and the CPU runs them: the keywords, the
// built-in variables and functions that they use, and a launch that returns when the kernel has finished.
#pragma once

#include <c10/core/CPUAllocator.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "fibers.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__

// Blocks run one at a time, so storage of the process is storage of the block. One section holds it all: see fibers.h.
#define __shared__ static __attribute__((section("cuda_shared")))

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

#define threadIdx (cuda_shim::thread_index())
#define blockIdx (cuda_shim::block_index())

inline const cuda_shim::Index& gridDim = cuda_shim::the_grid;

inline void __syncthreads() {
  cuda_shim::meet(cuda_shim::Status::at_barrier);
}

// Every lane of the warp has to take part: the kernels pass full masks only.
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned distance) {
  return cuda_shim::exchange(mask, value, cuda_shim::lane() + distance);
}

template <class T>
T __shfl_sync(unsigned mask, T value, unsigned lane) {
  return cuda_shim::exchange(mask, value, lane);
}

template <class T>
T __shfl_xor_sync(unsigned mask, T value, unsigned bits) {
  return cuda_shim::exchange(mask, value, cuda_shim::lane() ^ bits);
}

// Blocks run one at a time, and each sees what the ones before it wrote.
inline void __threadfence() {}

inline unsigned atomicInc(unsigned* address, unsigned limit) {
  const unsigned before = *address;
  *address = before >= limit ? 0 : before + 1;
  return before;
}

template <class T>
T atomicMax(T* address, T value) {
  const T before = *address;
  if (value > before) *address = value;
  return before;
}

template <class T>
void __stwb(T* target, T value) {
  *target = value;
}

using cudaError_t = int;
using cudaStream_t = void*;
constexpr cudaError_t cudaSuccess = 0;
constexpr unsigned cudaStreamNonBlocking = 1;
enum cudaStreamCaptureMode { cudaStreamCaptureModeRelaxed = 2 };
inline const cudaStream_t cudaStreamPerThread = reinterpret_cast<cudaStream_t>(2);

// From torch's allocator, since what interprets the kernels asks it which memory there is.
inline cudaError_t cudaMalloc(void** data, std::size_t bytes) {
  *data = c10::GetCPUAllocator()->raw_allocate(bytes);
  return cudaSuccess;
}

inline cudaError_t cudaMemsetAsync(void* data, int value, std::size_t bytes, cudaStream_t) {
  std::memset(data, value, bytes);
  return cudaSuccess;
}

inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t*, unsigned) {
  return cudaSuccess;
}

inline cudaError_t cudaStreamSynchronize(cudaStream_t) {
  return cudaSuccess;
}

inline cudaError_t cudaStreamDestroy(cudaStream_t) {
  return cudaSuccess;
}

struct cudaLaunchConfig_t {
  dim3 gridDim;
  dim3 blockDim;
  std::size_t dynamicSmemBytes;
  cudaStream_t stream;
};

template <class... Params>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Params...), Params... args) {
  const void* const arguments[] = {&args...};
  const std::size_t bytes[] = {sizeof(Params)...};
  return cuda_shim::run(
      {reinterpret_cast<const void*>(kernel), config->gridDim.x, config->blockDim.x, config->dynamicSmemBytes,
       sizeof...(Params), arguments, bytes},
      [&] { kernel(args...); });
}
