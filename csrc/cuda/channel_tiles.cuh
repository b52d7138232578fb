#pragma once

// How blocks go through a dense tensor channel by channel, and sums per channel in a fixed order.

#include <ATen/core/Tensor.h>

#include <algorithm>

#include "../channels.h"
#include "reduce.cuh"
#include "vector.h"

namespace dfad::cuda {

constexpr int max_channels = 64;  // of a block
// Vectors of neighbors that a thread moves at once, where a run of memory consists of such.
constexpr int channel_width = 4;

// A dense tensor is [outer][channels][inner] in memory. Where inner is 1 a row is one run of all channels; else it is a
// run per channel. A block serves a tile: some neighbors of one run, in a chunk of the rows. Sizes and alignment say
// which, so that no device enters a sum.
struct ChannelTiles {
  int64_t outer, count, inner;
  int64_t chunk_rows;
  int64_t row_chunks;
  int64_t tiles;  // of a run
  int32_t lanes;  // threads along a tile
  int32_t width;  // of each

  DFAD_HD bool planes() const { return inner > 1; }
  DFAD_HD int64_t run() const { return planes() ? inner : count; }
  DFAD_HD int64_t row() const { return count * inner; }
  DFAD_HD int64_t tile() const { return int64_t{lanes} * width; }
  DFAD_HD int64_t values() const { return outer * inner; }  // of a channel
  DFAD_HD int64_t blocks_of_chunk() const { return planes() ? tiles * count : tiles; }
  DFAD_HD int64_t blocks() const { return row_chunks * blocks_of_chunk(); }
  // Partial sums of a channel.
  DFAD_HD int64_t chunks() const { return planes() ? row_chunks * tiles : row_chunks; }

  DFAD_HD int64_t rows_at_once() const { return threads / lanes; }

  // How many values one channel has in a chunk, or in its first rows.
  DFAD_HD int64_t values_in(int64_t chunk, int64_t most_rows) const {
    const int64_t row_chunk = planes() ? chunk / tiles : chunk;
    const int64_t rows = smaller(most_rows, outer - row_chunk * chunk_rows);
    return planes() ? rows * smaller(tile(), inner - (chunk - row_chunk * tiles) * tile()) : rows;
  }

  static DFAD_HD int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
};

// Lanes for a run of so many vectors: many neighbors, of which few are past its end.
inline int32_t lanes_for(int64_t vectors, int32_t fewest) {
  int32_t lanes = threads;
  while (lanes / 2 >= vectors) lanes /= 2;
  const auto idle = [&](int32_t n) { return ceil_div(vectors, n) * n - vectors; };
  int32_t best = lanes;
  for (; lanes >= fewest && idle(best) > vectors / 8; lanes /= 2) {
    if (idle(lanes) < idle(best)) best = lanes;
  }
  return best;
}

// `strides` are dense. Vectors are `aligned` where all of a kernel's tensors are; else neighboring threads move single
// neighbors.
inline ChannelTiles tiles_of(at::IntArrayRef sizes, at::IntArrayRef strides, bool aligned) {
  constexpr int64_t enough_blocks = 1024, most_steps = 64;
  const ChannelLayout layout(sizes, strides);
  ChannelTiles of = {};
  of.outer = layout.outer;
  of.count = layout.channels;
  of.inner = layout.inner;
  of.width = aligned && of.run() % channel_width == 0 ? channel_width : 1;
  const int64_t vectors = of.run() / of.width;
  if (of.planes()) {
    of.lanes = lanes_for(vectors, warp / of.width);
  } else {
    of.lanes = 1;
    while (of.lanes < vectors && of.lanes < warp && of.tile() < max_channels) of.lanes *= 2;
  }
  of.tiles = ceil_div(vectors, of.lanes);
  const int64_t rows = of.rows_at_once();
  const int64_t steps = ceil_div(of.outer, rows) * of.blocks_of_chunk() / enough_blocks;
  of.chunk_rows = rows * std::clamp<int64_t>(steps, 1, most_steps);
  of.row_chunks = ceil_div(of.outer, of.chunk_rows);
  return of;
}

// A vector's elements: one, or several that are aligned.
template <class A, int width>
__device__ __forceinline__ void load(const void* data, at::ScalarType dtype, int64_t i, A (&values)[width]) {
  if constexpr (width > 1) {
    load_vector(data, dtype, i, values);
  } else {
    values[0] = load_one<A>(data, dtype, i);
  }
}

template <class A, int width>
__device__ __forceinline__ void store(void* data, at::ScalarType dtype, int64_t i, const A (&values)[width]) {
  if constexpr (width > 1) {
    store_vector(data, dtype, i, values);
  } else {
    store_one(data, dtype, i, values[0]);
  }
}

// A thread's part of a block's tile.
template <int width>
struct Tile {
  int64_t chunk;    // among those of a channel
  int64_t channel;  // the block's first
  int channels;     // of the block, which may end past the last
  int place;        // of this thread's first channel among them
  int64_t corner;   // the block's first element
  int64_t first;    // this thread's first element in the chunk's first row
  int64_t begin, end, step;  // this thread's rows, counted from there

  __device__ __forceinline__ explicit Tile(const ChannelTiles& of) {
    const int64_t row_chunk = blockIdx.x / of.blocks_of_chunk(), block = blockIdx.x - row_chunk * of.blocks_of_chunk();
    const int64_t run = block / of.tiles, tile = block - run * of.tiles;
    const int lane = static_cast<int>(threadIdx.x) % of.lanes;
    const int64_t first_row = row_chunk * of.chunk_rows;
    const int64_t along = tile * of.tile() + lane * width;
    const bool there = along < of.run();
    chunk = of.planes() ? row_chunk * of.tiles + tile : row_chunk;
    channel = of.planes() ? run : tile * of.tile();
    channels = of.planes() ? 1 : static_cast<int>(of.tile());
    place = of.planes() ? 0 : lane * width;
    corner = first_row * of.row() + run * of.run() + tile * of.tile();
    first = first_row * of.row() + run * of.run() + (there ? along : 0);
    begin = static_cast<int>(threadIdx.x) / of.lanes;
    end = there ? ChannelTiles::smaller(of.chunk_rows, of.outer - first_row) : 0;
    step = of.rows_at_once();
  }

  // Calls body(element) for this thread's vectors.
  template <class Body>
  __device__ __forceinline__ void for_each(const ChannelTiles& of, const Body& body) const {
    for (int64_t row = begin; row < end; row += step) body(first + row * of.row());
  }

  // This thread's numbers out of those of the block's channels.
  template <class A>
  __device__ __forceinline__ void pick(const ChannelTiles& of, const A* table, A (&values)[width]) const {
#pragma unroll
    for (int j = 0; j < width; ++j) values[j] = table[of.planes() ? 0 : place + j];
  }

  // The same out of those of all channels, as vectors where its channels are neighbors. They must be there.
  template <class A>
  __device__ __forceinline__ void load_own(const ChannelTiles& of, const A* all, A (&values)[width]) const {
    if (!of.planes()) return load(all, c10::CppTypeToScalarType<A>::value, channel + place, values);
#pragma unroll
    for (int j = 0; j < width; ++j) values[j] = all[channel];
  }
};

// The block's sums of what its threads hold for their channels: one for each of its channels, for all threads to read
// until they meet again.
template <int width, class A>
static __device__ __forceinline__ const double* block_sums(
    const ChannelTiles& of, const Tile<width>& tile, const A (&sums)[width]) {
  __shared__ double by_warp[threads / warp][max_channels], totals[max_channels];
  const int mine = static_cast<int>(threadIdx.x);
  if (of.planes()) {
    double all = 0;
#pragma unroll
    for (int j = 0; j < width; ++j) all += sums[j];
    all = block_sum(all);
    if (mine == 0) totals[0] = all;
  } else {
#pragma unroll
    for (int j = 0; j < width; ++j) {
      double sum = sums[j];
      for (int distance = warp / 2; distance >= of.lanes; distance /= 2) {
        sum += __shfl_down_sync(0xffffffffu, sum, distance);
      }
      if (mine % warp < of.lanes) by_warp[mine / warp][tile.place + j] = sum;
    }
    __syncthreads();
    if (mine < tile.channels) {
      double total = 0;
      for (int w = 0; w < threads / warp; ++w) total += by_warp[w][mine];
      totals[mine] = total;
    }
  }
  __syncthreads();
  return totals;
}

// Writes them, in to[chunk][channel].
template <int width, class A>
static __device__ __forceinline__ void write_sums(
    const ChannelTiles& of, const Tile<width>& tile, const A (&sums)[width], A* to) {
  const double* const totals = block_sums(of, tile, sums);
  const int mine = static_cast<int>(threadIdx.x);
  if (mine >= tile.channels || tile.channel + mine >= of.count) return;
  to[tile.chunk * of.count + tile.channel + mine] = static_cast<A>(totals[mine]);
}

// The second pass of a sum per channel: threads share a channel's chunks, neighbors read neighboring channels.
constexpr int channels_together = 8;

// The sum over the threads with this thread's channel, on each of them.
static __device__ double channel_sum(double value) {
  __shared__ double values[threads];
  values[threadIdx.x] = value;
  __syncthreads();
  double total = 0;
  for (int i = static_cast<int>(threadIdx.x) % channels_together; i < threads; i += channels_together) total += values[i];
  __syncthreads();
  return total;
}

// Calls body(chunk) for this thread's share.
template <class Body>
__device__ __forceinline__ void for_each_chunk(int64_t chunks, const Body& body) {
  constexpr int sharing = threads / channels_together;
  for (int64_t chunk = threadIdx.x / channels_together; chunk < chunks; chunk += sharing) body(chunk);
}

}  // namespace dfad::cuda
