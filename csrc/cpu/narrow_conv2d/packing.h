#pragma once

#include <cstdint>

namespace dfad::cpu::narrow_conv2d {

constexpr std::int64_t packed_channels = 8;

inline std::int64_t blocks_of(std::int64_t channels) { return (channels + packed_channels - 1) / packed_channels; }

// Channels filled up to whole blocks.
inline std::int64_t lanes_of(std::int64_t channels) { return blocks_of(channels) * packed_channels; }

}  // namespace dfad::cpu::narrow_conv2d
