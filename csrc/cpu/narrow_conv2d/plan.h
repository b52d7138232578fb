#pragma once

// How a narrow convolution goes through its images: bands of rows, whose input is packed, and taps that read it.

#include <algorithm>
#include <vector>

#include "../tiers.h"
#include "packing.h"

namespace dfad::cpu::narrow_conv2d {

// Output pixels that the same taps reach: all of them, or for the adjoint of a stride of 2 every second of every second
// row. Where there are no taps, they are zero.
struct Pixels {
  int64_t row, column, step;
  std::vector<ConvolutionTap> taps;
};

class Plan {
 public:
  // A convolution of images of [height, width] pixels and so many channels to `out` channels, with padding
  // kernel / 2.
  static Plan forward(int64_t kernel, int64_t stride, int64_t in, int64_t out, int64_t height, int64_t width);

  // Its adjoint: from the gradient of its result, of `out` channels, to that of its images.
  static Plan adjoint(int64_t kernel, int64_t stride, int64_t in, int64_t out, int64_t height, int64_t width);

  // Channels that are read, and that are computed.
  int64_t in, out, height, width;
  std::vector<Pixels> pixels;

  // Bands are so large that their packed input stays in the second cache. Nothing here depends on the threads.
  int64_t bands() const { return (units_ + band_ - 1) / band_; }
  int64_t packed_floats() const { return rows_of(band_) * row_floats(); }
  PackedRows packed(int64_t band, float* memory) const;

  // Rows of `of` in a band, from the one that is the band's first on; some bands have one less than others.
  int64_t first_row(int64_t band, const Pixels& of) const { return band * band_ * of.step + of.row; }
  int64_t rows(int64_t band, const Pixels& of) const;
  int64_t columns(const Pixels& of) const { return divided_up(width - of.column, of.step); }

  // Distances in the packed input: of rows of `Pixels`, and of blocks.
  int64_t row() const { return advance_ * row_floats(); }
  int64_t block() const { return across_ * packed_channels; }

 private:
  static int64_t divided_up(int64_t n, int64_t by) { return (n + by - 1) / by; }

  int64_t row_floats() const { return phases_ * blocks_of(in) * block(); }
  int64_t rows_of(int64_t units) const { return advance_ * (units - 1) + 1 + more_; }
  int64_t place(int64_t row, int64_t phase, int64_t pixel) const {
    return row * row_floats() + phase * blocks_of(in) * block() + pixel * packed_channels;
  }
  void cut();

  // A unit is a row of the output, or where `pixels` are of every second row, two. Its first input row is the image's
  // row factor_ * unit + offset_; the next unit's is advance_ packed rows farther, and the last needs more_ rows.
  int64_t units_, factor_, offset_, row_step_, advance_, more_;
  // Columns: of phase 0 and 1 the first ones, the distance, and how many.
  int64_t phases_, columns_[2], step_, across_;
  int64_t band_ = 1;
};

}  // namespace dfad::cpu::narrow_conv2d
