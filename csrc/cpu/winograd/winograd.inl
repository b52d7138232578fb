// The passes over images and filters of Winograd's convolution, in the including tier's namespace and instruction set.

struct Place {
  std::int64_t image, row, column;
};

// Calls body(index in the range, the tile's place among images, rows and columns of tiles).
template <int tile, class Body>
DFAD_INLINE void for_each_image_tile(const Images& images, TileRange range, const Body& body) {
  const std::int64_t across = (images.width + tile - 1) / tile, down = (images.height + tile - 1) / tile;
  Place at = {range.first / across / down, range.first / across % down, range.first % across};
  for (std::int64_t t = 0; t < range.count; ++t) {
    body(t, at);
    if (++at.column < across) continue;
    at.column = 0;
    if (++at.row < down) continue;
    at.row = 0;
    ++at.image;
  }
}

// Pixels of a window of an image whose first pixel is (top, left); beyond the image, `outside`.
template <int size, class P>
DFAD_INLINE void find_pixels(
    const Images& images, std::int64_t image, std::int64_t top, std::int64_t left, P outside, P (&pixels)[size][size]) {
  for (int i = 0; i < size; ++i) {
    for (int j = 0; j < size; ++j) {
      const std::int64_t y = top + i, x = left + j;
      const bool inside = y >= 0 && y < images.height && x >= 0 && x < images.width;
      pixels[i][j] = inside ? images.data + image * images.image + y * images.row + x * images.pixel : outside;
    }
  }
}

template <int tile>
static void transform_input(const Images& images, const TransformedTiles& target, TileRange range) {
  constexpr int size = tile + 2;
  for_each_image_tile<tile>(images, range, [&](std::int64_t t, Place at) {
    const float* pixels[size][size];
    find_pixels<size, const float*>(images, at.image, at.row * tile - 1, at.column * tile - 1, images.zeros, pixels);
    float* const to = target.data + t * panel_size;
    for_each_register(
        images.channels, range.panels, target.tiles * panel_size,
        [&](std::int64_t c, std::int64_t place, auto meant) {
          both_sides<typename Winograd<tile>::Input>(
              [&](int i, int j) { return load_lanes(pixels[i][j] + c, meant); },
              [&](int i, int j, F32 values) { store(to + (i * size + j) * target.component + place, values); });
        });
  });
}

template <int tile>
static void transform_output(
    const TransformedTiles& source, const Images& images, const WinogradEnd& end, TileRange range) {
  constexpr int size = tile + 2;
  for_each_image_tile<tile>(images, range, [&](std::int64_t t, Place at) {
    float* pixels[tile][tile];
    find_pixels<tile, float*>(images, at.image, at.row * tile, at.column * tile, nullptr, pixels);
    const float* const from = source.data + t * panel_size;
    for_each_register(
        images.channels, range.panels, source.tiles * panel_size,
        [&](std::int64_t c, std::int64_t place, auto meant) {
          const F32 bias = end.bias != nullptr ? load_lanes(end.bias + c, meant) : F32{};
          both_sides<typename Winograd<tile>::Output>(
              [&](int i, int j) { return load(from + (i * size + j) * source.component + place); },
              [&](int i, int j, F32 values) {
                if (pixels[i][j] == nullptr) return;
                values += bias;
                if (end.relu) values = select(not_positive(values), F32{}, values);
                store_lanes(pixels[i][j] + c, values, meant);
              });
        });
  });
}

// The gradient of a ReLU with this result.
DFAD_INLINE F32 cut_off(F32 grad, F32 result) { return select(not_positive(result), F32{}, grad); }

template <int tile>
static void transform_output_adjoint(
    const Images& grad, const Images& result, const TransformedTiles& target, TileRange range) {
  constexpr int size = tile + 2;
  for_each_image_tile<tile>(grad, range, [&](std::int64_t t, Place at) {
    const float* pixels[tile][tile];
    const float* results[tile][tile] = {};
    find_pixels<tile, const float*>(grad, at.image, at.row * tile, at.column * tile, grad.zeros, pixels);
    if (result.data != nullptr) {
      find_pixels<tile, const float*>(result, at.image, at.row * tile, at.column * tile, grad.zeros, results);
    }
    float* const to = target.data + t * panel_size;
    for_each_register(
        grad.channels, range.panels, target.tiles * panel_size,
        [&](std::int64_t c, std::int64_t place, auto meant) {
          both_sides<typename Winograd<tile>::OutputAdjoint>(
              [&](int i, int j) {
                const F32 values = load_lanes(pixels[i][j] + c, meant);
                return result.data == nullptr ? values : cut_off(values, load_lanes(results[i][j] + c, meant));
              },
              [&](int i, int j, F32 values) { store(to + (i * size + j) * target.component + place, values); });
        });
  });
}

template <int tile>
static void transform_input_adjoint(const TransformedTiles& source, const Images& images, TileRange range) {
  constexpr int size = tile + 2;
  for_each_image_tile<tile>(images, range, [&](std::int64_t t, Place at) {
    float* pixels[size][size];
    find_pixels<size, float*>(images, at.image, at.row * tile - 1, at.column * tile - 1, nullptr, pixels);
    const float* const from = source.data + t * panel_size;
    // Tiles share two rows and two columns with those before them, which have written there.
    const int shared_rows = at.row > 0 ? 2 : 0, shared_columns = at.column > 0 ? 2 : 0;
    for_each_register(
        images.channels, range.panels, source.tiles * panel_size,
        [&](std::int64_t c, std::int64_t place, auto meant) {
          both_sides<typename Winograd<tile>::InputAdjoint>(
              [&](int i, int j) { return load(from + (i * size + j) * source.component + place); },
              [&](int i, int j, F32 values) {
                float* const pixel = pixels[i][j];
                if (pixel == nullptr) return;
                if (i < shared_rows || j < shared_columns) values += load_lanes(pixel + c, meant);
                store_lanes(pixel + c, values, meant);
              });
        });
  });
}

// Rows at a time: what is read of filters whose lanes lie apart is then a piece of each lane.
constexpr std::int64_t filter_rows = 16;

template <int tile>
static void transform_filters(const Filters& filters, const TransformedTiles& target, std::int64_t panel, Range rows) {
  constexpr int size = tile + 2;
  const std::int64_t lanes = filters.lanes - panel * panel_size;
  const std::int64_t meant = lanes < panel_size ? lanes : panel_size;
  const float* const first = filters.data + panel * panel_size * filters.lane;
  alignas(64) float taps[filter_rows][9][panel_size];
  for (std::int64_t begin = rows.begin; begin < rows.end; begin += filter_rows) {
    const std::int64_t count = rows.end - begin < filter_rows ? rows.end - begin : filter_rows;
    const std::int64_t there = filters.rows - begin < count ? filters.rows - begin : count;
    if (there < count || meant < panel_size) std::memset(taps, 0, sizeof taps);
    const auto copy = [&](std::int64_t r, int tap, std::int64_t lane) {
      taps[r][tap][lane] = first
          [lane * filters.lane + (begin + r) * filters.row + tap / 3 * filters.tap_row + tap % 3 * filters.tap_column];
    };
    if (filters.lane == 1) {
      for (std::int64_t r = 0; r < there; ++r) {
        for (int tap = 0; tap < 9; ++tap) {
          for (std::int64_t lane = 0; lane < meant; ++lane) copy(r, tap, lane);
        }
      }
    } else if (filters.row == 1) {
      for (std::int64_t lane = 0; lane < meant; ++lane) {
        for (int tap = 0; tap < 9; ++tap) {
          for (std::int64_t r = 0; r < there; ++r) copy(r, tap, lane);
        }
      }
    } else {
      for (std::int64_t lane = 0; lane < meant; ++lane) {
        for (std::int64_t r = 0; r < there; ++r) {
          for (int tap = 0; tap < 9; ++tap) copy(r, tap, lane);
        }
      }
    }
    for (std::int64_t r = 0; r < count; ++r) {
      float* const to = target.data + (panel * target.tiles + begin + r) * panel_size;
      for (std::int64_t k = 0; k < panel_size; k += width<float>) {
        both_sides<typename Winograd<tile>::Filter>(
            [&](int i, int j) { return load(&taps[r][3 * i + j][k]); },
            [&](int i, int j, F32 values) { store(to + (i * size + j) * target.component + k, values); });
      }
    }
  }
}

template <int tile>
static void transform_filters_adjoint(
    const TransformedTiles& source, const Filters& filters, std::int64_t panel, Range rows) {
  constexpr int size = tile + 2;
  const std::int64_t lanes = filters.lanes - panel * panel_size;
  const std::int64_t meant = lanes < panel_size ? lanes : panel_size;
  alignas(64) float taps[9][panel_size];
  for (std::int64_t r = rows.begin; r < rows.end; ++r) {
    const float* const from = source.data + (panel * source.tiles + r) * panel_size;
    for (std::int64_t k = 0; k < panel_size; k += width<float>) {
      both_sides<typename Winograd<tile>::FilterAdjoint>(
          [&](int i, int j) { return load(from + (i * size + j) * source.component + k); },
          [&](int i, int j, F32 values) { store(&taps[3 * i + j][k], values); });
    }
    float* const to = filters.data + panel * panel_size * filters.lane + r * filters.row;
    if (filters.lane == 1) {
      for (int tap = 0; tap < 9; ++tap) {
        std::memcpy(
            to + tap / 3 * filters.tap_row + tap % 3 * filters.tap_column, taps[tap],
            static_cast<std::size_t>(meant) * sizeof(float));
      }
    } else {
      for (std::int64_t lane = 0; lane < meant; ++lane) {
        for (int tap = 0; tap < 9; ++tap) {
          to[lane * filters.lane + tap / 3 * filters.tap_row + tap % 3 * filters.tap_column] = taps[tap][lane];
        }
      }
    }
  }
}

static void winograd_channel_sums(const Images& grad, const Images& result, Range pixels, double* sums) {
  const auto pixel = [](const Images& images, std::int64_t i) {
    const std::int64_t x = i % images.width, y = i / images.width % images.height;
    return images.data + i / images.width / images.height * images.image + y * images.row + x * images.pixel;
  };
  for (std::int64_t i = pixels.begin; i < pixels.end; ++i) {
    const float* const values = pixel(grad, i);
    const float* const results = result.data == nullptr ? nullptr : pixel(result, i);
    for (std::int64_t c = 0; c < grad.channels; ++c) {
      sums[c] += results != nullptr && results[c] <= 0 ? 0.0 : static_cast<double>(values[c]);
    }
  }
}

static void winograd_input(int tile, const Images& images, const TransformedTiles& target, TileRange range) {
  (tile == 2 ? transform_input<2> : transform_input<4>)(images, target, range);
}

static void winograd_output(
    int tile, const TransformedTiles& source, const Images& images, const WinogradEnd& end, TileRange range) {
  (tile == 2 ? transform_output<2> : transform_output<4>)(source, images, end, range);
}

static void winograd_output_adjoint(
    int tile, const Images& grad, const Images& result, const TransformedTiles& target, TileRange range) {
  (tile == 2 ? transform_output_adjoint<2> : transform_output_adjoint<4>)(grad, result, target, range);
}

static void winograd_input_adjoint(
    int tile, const TransformedTiles& source, const Images& images, TileRange range) {
  (tile == 2 ? transform_input_adjoint<2> : transform_input_adjoint<4>)(source, images, range);
}

static void winograd_filters(
    int tile, const Filters& filters, const TransformedTiles& target, std::int64_t panel, Range rows) {
  (tile == 2 ? transform_filters<2> : transform_filters<4>)(filters, target, panel, rows);
}

static void winograd_filters_adjoint(
    int tile, const TransformedTiles& source, const Filters& filters, std::int64_t panel, Range rows) {
  (tile == 2 ? transform_filters_adjoint<2> : transform_filters_adjoint<4>)(source, filters, panel, rows);
}
