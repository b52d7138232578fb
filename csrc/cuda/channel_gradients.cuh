#pragma once

// The gradient of channel statistics: what it takes of each channel, and how a warp gets that beside its values.

#include <type_traits>

#include "../arithmetic/channel_statistics.h"
#include "tiles.cuh"

namespace dfad::cuda {

// The operands are the gradient and x, in the gradient's memory order: [outer][channels][inner].
struct GradientStage {
  Loop<2> loop;
  int64_t channels;
  int64_t inner;
  int64_t first_channel;
  double share;  // of a value in its channel's mean
  bool wide;

  int64_t chunks() const { return chunks_of(loop.elements); }

  __device__ __forceinline__ int64_t channel_of_run(int64_t run) const {
    return first_channel + run - quotient(run, channels, loop.elements) * channels;
  }
};

// The most channels of a piece: one access of 16 bytes moves this many floats.
constexpr int most_channels = 4;

struct StatisticsGradient {
  const void* grad;
  const void* statistics;
  at::ScalarType grad_dtype;
  at::ScalarType dtype;
  int64_t row, channel;  // strides of grad
};

// What the gradients of a channel's values take beside them, for elements before `end`, which counts from the tile's
// first one: as 64 bits it would take registers that are not there.
template <class A>
struct OfChannel {
  A mean, slope, level;
  int32_t end;
};

template <class A>
__device__ __forceinline__ OfChannel<A> channel_of(
    const GradientStage& stage, const StatisticsGradient& incoming, int64_t begin, int64_t element) {
  const int64_t run = quotient(element, stage.inner, stage.loop.elements), c = stage.channel_of_run(run);
  const double by_mean = load_one<double>(incoming.grad, incoming.grad_dtype, c * incoming.channel);
  const double by_variance =
      load_one<double>(incoming.grad, incoming.grad_dtype, incoming.row + c * incoming.channel);
  const int64_t end = (run + 1) * stage.inner - begin;
  return {
      load_one<A>(incoming.statistics, incoming.dtype, c), static_cast<A>(2 * by_variance * stage.share),
      static_cast<A>(by_mean * stage.share), static_cast<int32_t>(end < tile_elements ? end : tile_elements)};
}

// A warp's tile, where neighbors are mostly of one channel.
template <class A>
__device__ __forceinline__ void gradients_in_planes(
    const GradientStage& stage, const StatisticsGradient& incoming, int64_t begin) {
  const auto place = [&](auto way, int64_t k, int64_t (&offsets)[2]) {
    offsets_of(way, stage.loop, k, offsets);
    return channel_of<A>(stage, incoming, begin, k);
  };
  for_tile<A, AtOnce<width, 2>, 1>(
      stage.loop, stage.loop.elements, begin, place,
      [&](const OfChannel<A>& of_piece, Element element, const A (&in)[1], A (&out)[1]) {
        const bool is_of_piece = static_cast<int32_t>(element.index - begin) < of_piece.end;
        const OfChannel<A> own = is_of_piece ? of_piece : channel_of<A>(stage, incoming, begin, element.index);
        out[0] = ChannelGradient{}(in[0], own.mean, own.slope, own.level);
      });
}

// What is loaded beside a piece whose values are of neighboring channels. Vectors are of the compute type.
template <class A, int unit>
struct OfChannels {
  using Grad = std::conditional_t<unit == 1, double, A>;
  A mean[unit];
  Grad by_mean[unit], by_variance[unit];

  // From the c-th channel on.
  __device__ __forceinline__ void load(const StatisticsGradient& incoming, int64_t c) {
    if constexpr (unit > 1) {
      load_as<A>(incoming.statistics, c, mean);
      load_as<A>(incoming.grad, c, by_mean);
      load_as<A>(incoming.grad, incoming.row + c, by_variance);
    } else {
      mean[0] = load_one<A>(incoming.statistics, incoming.dtype, c);
      by_mean[0] = load_one<double>(incoming.grad, incoming.grad_dtype, c * incoming.channel);
      by_variance[0] = load_one<double>(incoming.grad, incoming.grad_dtype, incoming.row + c * incoming.channel);
    }
  }

  // The j-th value's gradient; `share` is that of a value in its channel's mean.
  __device__ __forceinline__ A gradient(A x, int j, double share) const {
    const A slope = static_cast<A>(2 * static_cast<double>(by_variance[j]) * share);
    return ChannelGradient{}(x, mean[j], slope, static_cast<A>(static_cast<double>(by_mean[j]) * share));
  }
};

// Where neighbors are of neighboring channels, whose numbers are moved as the values are.
template <class A>
__device__ __forceinline__ void gradients_in_rows(
    const GradientStage& stage, const StatisticsGradient& incoming, int64_t begin) {
  const auto place = [&](auto way, int64_t k, int64_t (&offsets)[2]) {
    offsets_of(way, stage.loop, k, offsets);
    OfChannels<A, decltype(way)::unit> own;
    own.load(incoming, stage.channel_of_run(k));
    return own;
  };
  for_tile<A, AtOnce<most_channels, 1>, 1>(
      stage.loop, stage.loop.elements, begin, place,
      [&](const auto& own, Element element, const A (&in)[1], A (&out)[1]) {
        out[0] = own.gradient(in[0], element.own % (sizeof(own.mean) / sizeof(A)), stage.share);
      });
}

}  // namespace dfad::cuda
