#pragma once

// How warps go through the elements of a loop. A warp takes a tile at a time. Its lanes lie beside each other in pieces
// of `unit` neighbors, up to 16 bytes, so that each access of the warp is contiguous: a thread's elements are not.

#include <utility>

#include "launch.h"
#include "offsets.cuh"
#include "vector.h"

namespace dfad::cuda {

// A thread's elements in a tile. With one bit for each element, every lane has a byte.
constexpr int width = 8;
constexpr int tile_elements = warp * width;
constexpr int64_t tiles_of_block = int64_t{threads} * width;  // in elements, a tile for each warp

// Tiles of each warp in a chunk: the more elements there are the more, as long as the blocks are enough to fill a large
// GPU. No device enters, so that sums are the same on every GPU.
DFAD_HD int tiles_per_warp(int64_t elements) {
  constexpr int64_t enough_blocks = 512, most_tiles = 4;
  const int64_t tiles = elements / (enough_blocks * tiles_of_block);
  return static_cast<int>(tiles < 1 ? 1 : tiles > most_tiles ? most_tiles : tiles);
}

DFAD_HD int64_t chunks_of(int64_t elements) {
  return ceil_div(elements, tiles_of_block * tiles_per_warp(elements));
}

// Blocks that a multiprocessor should hold. Without this bound the compiler takes more registers, or spills some to hold
// one more block.
template <class A>
constexpr int resident_blocks = sizeof(A) == sizeof(float) ? 4 : 2;

__device__ __forceinline__ int lane_of_warp() {
  return static_cast<int>(threadIdx.x) % warp;
}

// Calls body(begin) for the tiles of this warp in a block's chunk.
template <class Body>
__device__ __forceinline__ void for_each_tile(int64_t elements, int64_t chunk, const Body& body) {
  const int tiles = tiles_per_warp(elements);
  const int64_t first = chunk * tiles * tiles_of_block + int64_t{threadIdx.x / warp} * tile_elements;
#pragma unroll 1
  for (int i = 0; i < tiles; ++i) {
    const int64_t begin = first + i * tiles_of_block;
    if (begin < elements) body(begin);
  }
}

// The neighbors of a piece in the tile that begins here. The last tile may be too short for more than one.
template <class A, int operands>
__device__ __forceinline__ int unit_at(const Loop<operands>& loop, int64_t elements, int64_t begin) {
  constexpr int most = sizeof(A) == sizeof(float) ? 8 : 2;
  if (begin + tile_elements > elements) return 1;
  return loop.unit < most ? loop.unit : most;
}

// An element of a thread: its number in the loop, and which of the thread's own it is.
struct Element {
  int64_t index;
  int own;
};

// How many elements' loads a thread issues before it converts the first: as many as its registers hold, of which each
// piece's addresses take some.
template <int elements_, int pieces_>
struct AtOnce {
  static constexpr int elements = elements_;
  static constexpr int pieces = pieces_;
};

// Calls place(way, index, offsets) for each of this thread's pieces, and body(place's result, element, in, out) for each
// of its elements.
template <class A, class AnyAtOnce, int outs, int operands, class AnyWay, class Place, class Body>
__device__ __forceinline__ void for_pieces(
    AnyWay way, const Loop<operands>& loop, int64_t elements, int64_t begin, const Place& place, const Body& body) {
  constexpr int ins = operands - outs, unit = AnyWay::unit;
  constexpr int wanted = unit > 1 ? AnyAtOnce::elements / unit : (AnyWay::flat ? AnyAtOnce::elements / 4 : 1);
  constexpr int together = wanted < AnyAtOnce::pieces ? wanted : AnyAtOnce::pieces;
  [[maybe_unused]] constexpr int copies = unit > 2 ? width / unit / together : 1;
  using Context = decltype(place(way, int64_t{}, std::declval<int64_t (&)[operands]>()));
  const int64_t first = begin + lane_of_warp() * unit;
#pragma unroll copies
  for (int batch = 0; batch < width / unit; batch += together) {
    const auto index_of = [&](int p) { return first + (batch + p) * (warp * unit); };
    const auto is_there = [&](int p) { return unit > 1 || index_of(p) < elements; };
    int64_t offsets[together][operands] = {};
    Context contexts[together] = {};
    Piece<A, unit> pieces[ins][together] = {};
#pragma unroll
    for (int p = 0; p < together; ++p) {
      if (is_there(p)) contexts[p] = place(way, index_of(p), offsets[p]);
    }
#pragma unroll
    for (int n = 0; n < ins; ++n) {
      if (loop.data[outs + n] == nullptr) continue;
#pragma unroll
      for (int p = 0; p < together; ++p) {
        if (is_there(p)) pieces[n][p].load(loop.data[outs + n], loop.dtypes[outs + n], offsets[p][outs + n]);
      }
    }
#pragma unroll
    for (int p = 0; p < together; ++p) {
      if (!is_there(p)) continue;
      A values[ins][unit] = {}, results[outs][unit];
#pragma unroll
      for (int n = 0; n < ins; ++n) pieces[n][p].convert(loop.dtypes[outs + n], values[n]);
#pragma unroll
      for (int j = 0; j < unit; ++j) {
        A in[ins], out[outs] = {};
#pragma unroll
        for (int n = 0; n < ins; ++n) in[n] = values[n][j];
        body(contexts[p], Element{index_of(p) + j, (batch + p) * unit + j}, in, out);
#pragma unroll
        for (int n = 0; n < outs; ++n) results[n][j] = out[n];
      }
#pragma unroll
      for (int n = 0; n < outs; ++n) {
        if (loop.data[n] != nullptr) store_piece(loop.data[n], loop.dtypes[n], offsets[p][n], results[n]);
      }
    }
  }
}

// This thread's part of a tile of so many elements. The operands are the outputs, then the inputs.
template <class A, class AnyAtOnce, int outs, int operands, class Place, class Body>
__device__ __forceinline__ void for_tile(
    const Loop<operands>& loop, int64_t elements, int64_t begin, const Place& place, const Body& body) {
  const int unit = unit_at<A>(loop, elements, begin);
  const auto run = [&](auto way) { for_pieces<A, AnyAtOnce, outs>(way, loop, elements, begin, place, body); };
  if constexpr (sizeof(A) == sizeof(float)) {
    if constexpr (AnyAtOnce::elements == width) {
      if (unit == 8) return run(Way<8, true>{});
    }
    if (unit >= 4) return run(Way<4, true>{});
  }
  if (unit >= 2) return run(Way<2, true>{});
  if (loop.dims == 1) return run(Way<1, true>{});
  run(Way<1, false>{});
}

}  // namespace dfad::cuda
