#pragma once

#include <ATen/core/Tensor.h>

namespace dfad {

// A dense tensor [B, C, ...] in memory: [outer][channels][inner], whatever the order of its dimensions.
struct ChannelLayout {
  // `strides` are dense ones, of a tensor of these sizes.
  ChannelLayout(at::IntArrayRef sizes, at::IntArrayRef strides) : channels(sizes[1]), values(1) {
    for (size_t d = 0; d < sizes.size(); ++d) values *= d == 1 ? 1 : sizes[d];
    if (channels == 0 || values == 0) return;
    inner = channels == 1 ? values : strides[1];
    outer = values / inner;
  }

  int64_t channels;
  int64_t values;  // of each channel
  int64_t outer = 0;
  int64_t inner = 1;
};

inline int64_t channels_of(at::TensorList features) {
  int64_t channels = 0;
  for (const at::Tensor& x : features) channels += x.size(1);
  return channels;
}

}  // namespace dfad
