#pragma once

// Marks arithmetic that the CPU tiers and the CUDA kernels share. On the host it must be inlined everywhere: a copy
// left out of line would be merged by the linker across tiers, and the base tier could end up running AVX-512 code.
#if defined(__CUDACC__)
#define DFAD_HD __host__ __device__ __forceinline__
#else
#define DFAD_HD inline __attribute__((always_inline))
#endif

namespace dfad {

// The tiers overload it for registers.
template <class A>
DFAD_HD A select(bool condition, A yes, A no) {
  return condition ? yes : no;
}

}  // namespace dfad
