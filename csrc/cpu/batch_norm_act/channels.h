#pragma once

// How the channels of a dense tensor lie in memory, and the pieces in which an op goes through them.

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "../../channels.h"
#include "../blocks.h"
#include "../tiers.h"

namespace dfad::cpu {

// Where the channels of a row are neighbors, a block is a chunk of the rows, and its pattern goes over all channels; else
// it is one channel's part of a chunk of the outer dimension, or a piece of one plane that is larger than a block.
class Channels {
 public:
  Channels(const ChannelLayout& layout, int64_t lanes)
      : channels_(layout.channels),
        inner_(channels_ == 1 ? 1 : layout.inner),
        lanes_(lanes),
        values_(layout.values),
        outer_(values_ / inner_) {
    period_ = rows() ? std::lcm(channels_, lanes) : lanes;
    if (rows()) {
      step_ = std::max<int64_t>(1, block_size / period_) * (period_ / channels_);
    } else {
      step_ = std::max<int64_t>(1, block_size / inner_);
      pieces_ = blocks_in(inner_);
    }
    chunks_ = (outer_ + step_ - 1) / step_ * pieces_;
  }

  int64_t count() const { return channels_; }
  int64_t values() const { return values_; }  // per channel
  int64_t elements() const { return values_ * channels_; }
  int64_t chunks() const { return chunks_; }
  int64_t blocks() const { return rows() ? chunks_ : chunks_ * channels_; }
  int64_t period() const { return period_; }

  // How many values one channel has in a chunk.
  int64_t values_in(int64_t chunk) const {
    if (pieces_ > 1) return std::min(block_size, inner_ - chunk % pieces_ * block_size);
    return (std::min((chunk + 1) * step_, outer_) - chunk * step_) * inner_;
  }

  int64_t chunk_of(int64_t block) const { return rows() ? block : block / channels_; }
  // The block's channels, and where the first element of the first of them lies.
  int64_t first_channel(int64_t block) const { return rows() ? 0 : block % channels_; }
  int64_t channels_in_block() const { return rows() ? channels_ : 1; }
  int64_t begin(int64_t block) const {
    if (rows()) return block * step_ * channels_;
    const int64_t chunk = chunk_of(block), outer = chunk / pieces_ * step_, piece = chunk % pieces_;
    return (outer * channels_ + first_channel(block)) * inner_ + piece * block_size;
  }

  NormStretch stretch(int64_t block, Dtype dtype) const {
    const int64_t chunk = chunk_of(block);
    if (rows()) return {dtype, values_in(chunk) * channels_, period_ / lanes_, 1, 0};
    if (pieces_ > 1) return {dtype, values_in(chunk), 1, 1, 0};
    return {dtype, inner_, 1, values_in(chunk) / inner_, channels_ * inner_};
  }

  // A number per channel, laid out for the lanes of the patterns.
  template <class A, class Value>
  std::vector<A> table(const Value& value) const {
    if (rows()) {
      std::vector<A> all(period_);
      for (int64_t c = 0; c < channels_; ++c) all[c] = static_cast<A>(value(c));
      repeat(all.data());
      return all;
    }
    std::vector<A> all(channels_ * lanes_);
    for (int64_t c = 0; c < channels_; ++c) std::fill_n(all.begin() + c * lanes_, lanes_, static_cast<A>(value(c)));
    return all;
  }
  // Where the table begins for a block.
  int64_t table_offset(int64_t block) const { return rows() ? 0 : first_channel(block) * lanes_; }

  // Fills up a block's pattern, of which the first numbers are there: one for each of its channels.
  template <class A>
  void repeat(A* pattern) const {
    for (int64_t i = channels_in_block(); i < period_; i += channels_in_block()) {
      std::copy_n(pattern, channels_in_block(), pattern + i);
    }
  }

  // Adds a block's sums per lane to those of its channels.
  template <class A>
  void add_lanes(const A* lanes, double* sums) const {
    for (int64_t i = 0; i < period_; i += channels_in_block()) {
      for (int64_t c = 0; c < channels_in_block(); ++c) sums[c] += static_cast<double>(lanes[i + c]);
    }
  }

 private:
  bool rows() const { return inner_ == 1; }

  int64_t channels_, inner_, lanes_, values_, outer_;
  int64_t period_, step_, chunks_;
  int64_t pieces_ = 1;  // of a plane
};

}  // namespace dfad::cpu
