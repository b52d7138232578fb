#pragma once

// Where panels of channels lie.

#include "kernels.h"

namespace dfad::cpu {

inline int64_t divided_up(int64_t n, int64_t by) { return (n + by - 1) / by; }

inline int64_t panels_of(int64_t channels) { return divided_up(channels, panel_size); }

inline int64_t filled_up(int64_t channels) { return panels_of(channels) * panel_size; }

// Components start in different cache sets: a tile's elements, one per component, would evict each other.
inline int64_t component_stride(int64_t tiles, int64_t panels) { return (tiles * panels + 1) * panel_size; }

inline float* panel_of(const TransformedTiles& tiles, int64_t component, int64_t panel) {
  return tiles.data + component * tiles.component + panel * tiles.tiles * panel_size;
}

}  // namespace dfad::cpu
