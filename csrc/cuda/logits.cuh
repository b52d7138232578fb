#pragma once

// Rows of logits, which lanes of a warp share, and their softmax.

#include <c10/core/ScalarType.h>

#include <cmath>
#include <limits>
#include <type_traits>

#include "launch.h"
#include "offsets.cuh"
#include "vector.h"

namespace dfad::cuda {

// How many lanes share a row, and how many of its classes each keeps in registers, so that these are read once. Without
// any they are read each time.
template <int lanes_, int kept_>
struct Sharing {
  static constexpr int lanes = lanes_;
  static constexpr int kept = kept_;

  static int64_t blocks(int64_t rows) { return ceil_div(rows, threads / lanes); }
};

// Calls body(sharing) with the one for rows of so many classes. Where these are neighbors in memory, neighboring lanes
// read them; else a row has one lane, and neighboring lanes read neighboring rows.
template <class A, class Body>
void with_sharing(bool classes_are_neighbors, int64_t classes, const Body& body) {
  if (!classes_are_neighbors) return classes <= 16 ? body(Sharing<1, 16>{}) : body(Sharing<1, 0>{});
  // A class for each lane: a request then reads whole rows, which lie end to end.
  if (classes <= 4) return body(Sharing<4, 1>{});
  if (classes <= 16) return body(Sharing<16, 1>{});
  if (classes <= 128) return body(Sharing<16, 8>{});
  if constexpr (std::is_same_v<A, float>) {  // neither doubles nor more of them would fit
    if (classes <= 512) return body(Sharing<warp, 16>{});
  }
  body(Sharing<warp, 0>{});
}

// Calls body(class, k) for this thread's classes, of which it is the k-th.
template <class S, class Body>
__device__ __forceinline__ void for_each_class(int64_t classes, const Body& body) {
  const int lane = static_cast<int>(threadIdx.x) % S::lanes;
  if constexpr (S::kept > 0) {
#pragma unroll
    for (int k = 0; k < S::kept; ++k) {
      if (lane + k * S::lanes < classes) body(lane + k * S::lanes, k);
    }
  } else {
#pragma unroll 2
    for (int64_t c = lane; c < classes; c += S::lanes) body(c, 0);
  }
}

template <int lanes, class A, class Combine>
__device__ __forceinline__ A across_lanes(A value, const Combine& combine) {
#pragma unroll
  for (int distance = lanes / 2; distance > 0; distance /= 2) {
    value = combine(value, __shfl_xor_sync(0xffffffffu, value, distance));
  }
  return value;
}

// This thread's classes of a row, over the temperature.
template <class A, class S>
struct Logits {
  const void* data;
  at::ScalarType dtype;
  int64_t offset;
  int64_t stride;
  A inverse_temperature;
  A kept[S::kept > 0 ? S::kept : 1] = {};

  template <int operands>
  __device__ __forceinline__ Logits(
      const Loop<operands>& loop, int operand, const int64_t (&offsets)[operands], int64_t classes,
      A inverse_temperature_)
      : data(loop.data[operand]),
        dtype(loop.dtypes[operand]),
        offset(offsets[operand]),
        stride(loop.outer[operand]),
        inverse_temperature(inverse_temperature_) {
    if constexpr (S::kept > 0) {
      switch (dtype) {
        case at::kDouble: keep<double>(classes); break;
        case at::kHalf: keep<c10::Half>(classes); break;
        case at::kBFloat16: keep<c10::BFloat16>(classes); break;
        default: keep<float>(classes);
      }
    }
  }

  // The logit of class c, which is the thread's k-th class.
  __device__ __forceinline__ A at(int64_t c, int k) const {
    return S::kept > 0 ? kept[k] : load_one<A>(data, dtype, offset + c * stride) * inverse_temperature;
  }

 private:
  template <class T>
  __device__ __forceinline__ void keep(int64_t classes) {
    for_each_class<S>(classes, [&](int64_t c, int k) {
      kept[k] = static_cast<A>(static_cast<const T*>(data)[offset + c * stride]) * inverse_temperature;
    });
  }
};

// log softmax: x - maximum - logarithm. Kept apart, as their sum would lose the logarithm's digits.
template <class A>
struct Normalizer {
  A maximum;
  A logarithm;

  __device__ __forceinline__ A log_probability(A x) const {
    return (x - maximum) - logarithm;
  }
};

template <class A, class S>
__device__ __forceinline__ Normalizer<A> normalizer_of(const Logits<A, S>& logits, int64_t classes) {
  A maximum = -std::numeric_limits<A>::infinity();
  const auto larger = [](A a, A b) { return a > b ? a : b; };
  for_each_class<S>(classes, [&](int64_t c, int k) { maximum = larger(logits.at(c, k), maximum); });
  maximum = across_lanes<S::lanes>(maximum, larger);
  A sum = 0;
  for_each_class<S>(classes, [&](int64_t c, int k) { sum += std::exp(logits.at(c, k) - maximum); });
  sum = across_lanes<S::lanes>(sum, [](A a, A b) { return a + b; });
  return {maximum, std::log(sum)};
}

}  // namespace dfad::cuda
