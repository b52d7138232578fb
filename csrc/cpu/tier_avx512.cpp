// AVX-512 F, BW, DQ and VL. Standard headers come before the pragma: their inline functions are shared with other files.

#if defined(__x86_64__)

#include <immintrin.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#if defined(__clang__)
#pragma clang attribute push( \
    __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl"))), \
    apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,prefer-vector-width=512")
#endif

#include "kernels.h"

#define DFAD_REGISTER_BYTES 64
#define DFAD_TIER_F16C

namespace dfad::cpu::avx512 {
#include "tier.inl"
}  // namespace dfad::cpu::avx512

#if defined(__clang__)
#pragma clang attribute pop
#endif

#endif
