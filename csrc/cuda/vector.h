#pragma once

// Elements between memory, in any dtype, and registers of the compute type. The dtype is the same for all threads of a
// block, so a switch at run time costs a few instructions where a template for every pair of dtypes would cost minutes
// of compiling.

#include <c10/core/ScalarType.h>
#include <vector_types.h>

#include <cstdint>
#include <type_traits>

#include "../arithmetic/host_device.h"

namespace dfad::cuda {

template <class A>
DFAD_HD A load_one(const void* data, at::ScalarType dtype, int64_t i) {
  switch (dtype) {
    case at::kDouble: return static_cast<A>(static_cast<const double*>(data)[i]);
    case at::kHalf: return static_cast<A>(static_cast<float>(static_cast<const c10::Half*>(data)[i]));
    case at::kBFloat16: return static_cast<A>(static_cast<float>(static_cast<const c10::BFloat16*>(data)[i]));
    default: return static_cast<A>(static_cast<const float*>(data)[i]);
  }
}

template <class A>
__device__ __forceinline__ void store_one(void* data, at::ScalarType dtype, int64_t i, A value) {
  switch (dtype) {
    case at::kDouble: static_cast<double*>(data)[i] = static_cast<double>(value); break;
    case at::kHalf: static_cast<c10::Half*>(data)[i] = static_cast<float>(value); break;
    case at::kBFloat16: static_cast<c10::BFloat16*>(data)[i] = static_cast<float>(value); break;
    default: static_cast<float*>(data)[i] = static_cast<float>(value);
  }
}

// What one instruction moves: 16 bytes, or a vector of 8. Said by name (st.wb, a usual store), as the compiler splits
// some stores that are left to it.
template <class T, int width>
struct Packet {
  static_assert(width * sizeof(T) == 8 || width * sizeof(T) % 16 == 0);
  using Word = std::conditional_t<width * sizeof(T) == 8, uint2, uint4>;
  static constexpr int size = sizeof(Word) / sizeof(T);

  T values[size];
};

template <class T, class A, int width>
__device__ __forceinline__ void load_as(const void* data, int64_t i, A (&values)[width]) {
  using P = Packet<T, width>;
  const auto* words = reinterpret_cast<const typename P::Word*>(static_cast<const T*>(data) + i);
#pragma unroll
  for (int p = 0; p < width / P::size; ++p) {
    const P packet = __builtin_bit_cast(P, words[p]);
#pragma unroll
    for (int j = 0; j < P::size; ++j) values[p * P::size + j] = static_cast<A>(packet.values[j]);
  }
}

template <class T, class A, int width>
__device__ __forceinline__ void store_as(void* data, int64_t i, const A (&values)[width]) {
  using P = Packet<T, width>;
  auto* words = reinterpret_cast<typename P::Word*>(static_cast<T*>(data) + i);
#pragma unroll
  for (int p = 0; p < width / P::size; ++p) {
    P packet;
#pragma unroll
    for (int j = 0; j < P::size; ++j) packet.values[j] = static_cast<T>(values[p * P::size + j]);
    __stwb(words + p, __builtin_bit_cast(typename P::Word, packet));
  }
}

// `width` elements from the i-th on, which must be aligned to 16 bytes.
template <class A, int width>
__device__ __forceinline__ void load_vector(const void* data, at::ScalarType dtype, int64_t i, A (&values)[width]) {
  switch (dtype) {
    case at::kDouble: load_as<double>(data, i, values); break;
    case at::kHalf: load_as<c10::Half>(data, i, values); break;
    case at::kBFloat16: load_as<c10::BFloat16>(data, i, values); break;
    default: load_as<float>(data, i, values);
  }
}

template <class A, int width>
__device__ __forceinline__ void store_vector(void* data, at::ScalarType dtype, int64_t i, const A (&values)[width]) {
  switch (dtype) {
    case at::kDouble: store_as<double>(data, i, values); break;
    case at::kHalf: store_as<c10::Half>(data, i, values); break;
    case at::kBFloat16: store_as<c10::BFloat16>(data, i, values); break;
    default: store_as<float>(data, i, values);
  }
}

// What one access of a thread moves: up to 16 bytes.
template <int bytes>
using Access = std::conditional_t<
    bytes == 2, unsigned short,
    std::conditional_t<bytes == 4, unsigned, std::conditional_t<bytes == 8, uint2, uint4>>>;

template <class T, int unit>
constexpr bool is_one_access = unit * sizeof(T) <= 16;

// `unit` neighbors as they lie in memory, so that many loads can be on their way before the first is converted.
template <class A, int unit>
struct Piece {
  unsigned words[unit * sizeof(A) < 16 ? unit * sizeof(A) / 4 : 4];

  __device__ __forceinline__ void load(const void* data, at::ScalarType dtype, int64_t i) {
    switch (dtype) {
      case at::kDouble: load_doubles(static_cast<const double*>(data) + i); break;
      case at::kHalf:
      case at::kBFloat16: load_as<uint16_t>(data, i); break;
      default: load_as<float>(data, i);
    }
  }

  __device__ __forceinline__ void convert(at::ScalarType dtype, A (&values)[unit]) const {
    switch (dtype) {
      case at::kDouble: convert_from<A>(values); break;
      case at::kHalf: convert_from<c10::Half>(values); break;
      case at::kBFloat16: convert_from<c10::BFloat16>(values); break;
      default: convert_from<float>(values);
    }
  }

 private:
  template <class T>
  __device__ __forceinline__ void load_as(const void* data, int64_t i) {
    if constexpr (is_one_access<T, unit>) {
      const auto access =
          *reinterpret_cast<const Access<unit * sizeof(T)>*>(static_cast<const T*>(data) + i);
      if constexpr (sizeof access == 16) {
        words[0] = access.x, words[1] = access.y, words[2] = access.z, words[3] = access.w;
      } else if constexpr (sizeof access == 8) {
        words[0] = access.x, words[1] = access.y;
      } else {
        words[0] = access;
      }
    }
  }

  // Where float is computed in they become that at once: they would not fit.
  __device__ __forceinline__ void load_doubles(const double* data) {
    if constexpr (std::is_same_v<A, double>) {
      load_as<double>(data, 0);
    } else if constexpr (is_one_access<double, unit>) {
#pragma unroll
      for (int j = 0; j < unit; ++j) words[j] = __builtin_bit_cast(unsigned, static_cast<float>(data[j]));
    }
  }

  template <class T>
  __device__ __forceinline__ void convert_from(A (&values)[unit]) const {
    if constexpr (is_one_access<T, unit>) {
#pragma unroll
      for (int j = 0; j < unit; ++j) values[j] = static_cast<A>(stored<T>(j));
    }
  }

  template <class T>
  __device__ __forceinline__ T stored(int j) const {
    if constexpr (sizeof(T) == 2) {
      return __builtin_bit_cast(T, static_cast<uint16_t>(words[j / 2] >> j % 2 * 16));
    } else if constexpr (sizeof(T) == 4) {
      return __builtin_bit_cast(T, words[j]);
    } else {
      return __builtin_bit_cast(T, uint64_t{words[2 * j + 1]} << 32 | words[2 * j]);
    }
  }
};

template <class T, class A, int unit>
__device__ __forceinline__ void store_piece_as(void* data, int64_t i, const A (&values)[unit]) {
  if constexpr (is_one_access<T, unit>) {
    struct Stored {
      T values[unit];
    } stored;
#pragma unroll
    for (int j = 0; j < unit; ++j) stored.values[j] = static_cast<T>(values[j]);
    using Word = Access<unit * sizeof(T)>;
    __stwb(reinterpret_cast<Word*>(static_cast<T*>(data) + i), __builtin_bit_cast(Word, stored));
  }
}

// `unit` neighbors from the i-th on, in one access.
template <class A, int unit>
__device__ __forceinline__ void store_piece(void* data, at::ScalarType dtype, int64_t i, const A (&values)[unit]) {
  switch (dtype) {
    case at::kDouble: store_piece_as<double>(data, i, values); break;
    case at::kHalf: store_piece_as<c10::Half>(data, i, values); break;
    case at::kBFloat16: store_piece_as<c10::BFloat16>(data, i, values); break;
    default: store_piece_as<float>(data, i, values);
  }
}

}  // namespace dfad::cuda
