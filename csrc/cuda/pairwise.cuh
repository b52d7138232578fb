#pragma once

// What the losses over whole student/teacher pairs share: tiles of a loop whose index is the element's own, and bits that
// go with them, one for each element in the loop's order.

#include "operands.h"
#include "scale.cuh"
#include "tiles.cuh"

namespace dfad::cuda {

struct Nothing {};

template <class A, int outs, int operands, class Body>
__device__ __forceinline__ void for_tile(const Loop<operands>& loop, int64_t begin, const Body& body) {
  const auto place = [&](auto way, int64_t k, int64_t (&offsets)[operands]) {
    offsets_of(way, loop, k, offsets);
    return Nothing{};
  };
  for_tile<A, AtOnce<width, 4>, outs>(
      loop, loop.elements, begin, place,
      [&](Nothing, Element element, const auto& in, auto& out) { body(element, in, out); });
}

// A tile's bits as a byte for each lane, from what its threads have in the order of their elements. Every lane of the
// warp takes part.
__device__ __forceinline__ unsigned byte_of_tile(int unit, unsigned own) {
  const int lane = lane_of_warp();
  unsigned byte = 0;
  for (int bit = 0; bit < 8; bit += unit) {
    const int element = lane * 8 + bit, piece = element / (warp * unit);
    const unsigned theirs = __shfl_sync(0xffffffffu, own, element / unit % warp);
    byte |= (theirs >> piece * unit & ((1u << unit) - 1u)) << bit;
  }
  return byte;
}

// The inverse.
__device__ __forceinline__ unsigned own_of_tile(int unit, unsigned byte) {
  const int lane = lane_of_warp();
  unsigned own = 0;
  for (int bit = 0; bit < 8; bit += unit) {
    const int element = warp * bit + lane * unit;
    const unsigned theirs = __shfl_sync(0xffffffffu, byte, element / 8);
    own |= (theirs >> element % 8 & ((1u << unit) - 1u)) << bit;
  }
  return own;
}

// Where this lane's byte of a tile lies, or -1 where there are no more.
__device__ __forceinline__ int64_t byte_index(int64_t elements, int64_t begin) {
  const int64_t index = begin / 8 + lane_of_warp();
  return index * 8 < elements ? index : -1;
}

template <class A, int operands>
__device__ __forceinline__ void store_bits(
    uint8_t* bits, const Loop<operands>& loop, int64_t begin, unsigned own) {
  const unsigned byte = byte_of_tile(unit_at<A>(loop, loop.elements, begin), own);
  const int64_t index = byte_index(loop.elements, begin);
  if (index >= 0) bits[index] = static_cast<uint8_t>(byte);
}

// The bits of this thread's elements, in their order.
template <class A, int operands>
__device__ __forceinline__ unsigned load_bits(const uint8_t* bits, const Loop<operands>& loop, int64_t begin) {
  const int64_t index = byte_index(loop.elements, begin);
  return own_of_tile(unit_at<A>(loop, loop.elements, begin), index >= 0 ? bits[index] : 0u);
}

}  // namespace dfad::cuda
