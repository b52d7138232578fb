#pragma once

// The torch-free boundary: what an instruction-set tier computes, on a range of elements, for its callers.

#include <cstdint>

#include "../arithmetic/absolute_difference.h"
#include "../arithmetic/batch_norm_act.h"
#include "../arithmetic/boundary_hinge.h"
#include "../arithmetic/channel_statistics.h"
#include "../arithmetic/kl_divergence.h"
#include "../arithmetic/mixture.h"

namespace dfad::cpu {

enum class Dtype : std::uint8_t { f64, f32, f16, bf16 };

// Sizes of the loop over elements, outermost dimension first; at least one dimension.
struct Shape {
  std::int64_t dims;
  const std::int64_t* sizes;
};

// A tensor in that loop; strides in elements. Without data, an operand that is not there.
struct Operand {
  void* data = nullptr;
  const std::int64_t* strides = nullptr;
  Dtype dtype = Dtype::f32;
};

// Elements [begin, end) in the loop's order. Ranges over bits begin at a multiple of 8.
struct Range {
  std::int64_t begin;
  std::int64_t end;
};

// The incoming gradient: one per element, or without data the same `scale` for all.
struct IncomingGradient {
  Operand each;
  double scale;
};

// A teacher's features, or one bit per element in the loop's order, 1 where it is on.
struct Teacher {
  Operand features;
  const std::uint8_t* bits;
};

struct HingeSum {
  double loss;
  std::int64_t agreeing;
};

// `signs`, where given, receives the teacher's bits; `out`, where it has data, each element's loss.
template <class A>
struct HingeKernels {
  HingeSum (*loss)(
      const BoundaryHinge<A>&, const Shape&, const Operand& student, const Teacher&, std::uint8_t* signs,
      const Operand& out, Range);
  void (*gradient)(
      const BoundaryHinge<A>&, const Shape&, const Operand& student, const std::uint8_t* signs,
      const IncomingGradient&, const Operand& out, Range);
  void (*pack)(const Shape&, const Operand& teacher, std::uint8_t* signs, Range);
};

struct PairOperands {
  Shape shape;
  Operand student;
  Operand teacher;
};

// Where the student is at least its teacher, and where it is at most: one bit per element each. Null where not wanted.
struct DifferenceSigns {
  std::uint8_t* at_least = nullptr;
  std::uint8_t* at_most = nullptr;
};

struct L1Kernels {
  double (*sum)(const PairOperands&, const DifferenceSigns&, Range);
  void (*map)(const PairOperands&, const DifferenceSigns&, const Operand& out, Range);
  void (*gradient)(
      const Shape&, const DifferenceSigns&, const IncomingGradient&, const Operand& student_grad,
      const Operand& teacher_grad, Range);
};

template <class A>
using MixKernel = void (*)(
    const Mixture<A>&, const Shape&, const Operand& x, const Operand& y, const Operand& out, Range);

// A batch of interpolated_l1. Operands are those of sample 0, beside the elements from one sample to the next; the
// label of sample i is own[i] * teacher i + other[i] * teacher partner[i].
struct InterpolatedBatch {
  struct Rows {
    Operand first;
    std::int64_t stride;
  };

  Shape shape;
  Rows student, teacher;
  const double* own;
  const double* other;
  const std::int64_t* partner;
  // The incoming gradient: one per element, or without data the same `scale` for all.
  Rows grad;
  double scale;
};

// Over elements [begin, end) of each of the samples [first, last).
struct InterpolatedPart {
  std::int64_t first, last;
  Range range;
};

struct InterpolatedKernels {
  double (*sum)(const InterpolatedBatch&, InterpolatedPart);
  void (*map)(const InterpolatedBatch&, const InterpolatedBatch::Rows& out, InterpolatedPart);
  void (*student_gradient)(const InterpolatedBatch&, const InterpolatedBatch::Rows& out, InterpolatedPart);
  // inverse[i] is the sample whose label has i as its partner.
  void (*teacher_gradient)(
      const InterpolatedBatch&, const std::int64_t* inverse, const InterpolatedBatch::Rows& out, InterpolatedPart);
};

// Statistics of one row of logits over the temperature: q = exp(s - student_max - student_log_sum), p likewise.
template <class A>
struct KLStatistics {
  A student_max, student_log_sum, teacher_max, teacher_log_sum, divergence;
};

// Over one row of logits; the shape is [classes].
template <class A>
struct KLKernels {
  KLStatistics<A> (*loss)(A inverse_temperature, const PairOperands&);
  void (*gradient)(
      A inverse_temperature, const PairOperands&, const KLStatistics<A>&, A grad, const Operand& student_grad,
      const Operand& teacher_grad);
};

// Values of channels in one piece, of one dtype.
struct ChannelValues {
  const void* data;
  Dtype dtype;
  std::int64_t channels;
};

// Planes of one channel each: `size` values of a plane are meant, and the next channel's begin `distance` values later.
struct Planes {
  std::int64_t size, distance;
};

// Per channel, in the compute type.
template <class A>
struct ChannelSlopes {
  const A* mean;
  const A* slope;
  const A* level;
};

// See channel_statistics.inl.
template <class A>
struct ChannelKernels {
  // From rows with one value of every channel: one result per channel.
  void (*row_moments)(const ChannelValues&, std::int64_t rows, Moments* out);
  // From planes of samples that lie `sample` values apart: one result per channel.
  void (*plane_moments)(
      const ChannelValues&, const Planes&, std::int64_t samples, std::int64_t sample, Moments* out);
  void (*row_gradient)(const ChannelValues&, const ChannelSlopes<A>&, std::int64_t rows, void* out);
  // For planes of which the first is channel `first`; after the last channel comes the first one again.
  void (*plane_gradient)(
      const ChannelValues&, const ChannelSlopes<A>&, const Planes&, std::int64_t first, std::int64_t planes,
      void* out);
};

// Pieces of so many elements of memory, at this distance; along each the channels follow a pattern of so many groups of
// lanes.
struct NormStretch {
  Dtype dtype;
  std::int64_t elements, groups;
  std::int64_t pieces, distance;
};

// A number for each lane of the pattern.
template <class A>
struct NormTables {
  const A *mean, *scale, *bias;
};

// `out` is there where the activation's side is read from it, `residual_grad` where it is wanted.
struct NormBackward {
  const void *grad, *x, *out;
  void* residual_grad;
};

// See batch_norm_act.inl.
template <class A>
struct NormKernels {
  void (*apply)(
      const BatchNormAct<A>&, const NormStretch&, const void* x, const void* residual, const NormTables<A>&,
      void* out);
  void (*sums)(
      const BatchNormAct<A>&, const NormStretch&, const NormBackward&, const NormTables<A>&, A* sums, A* products);
  void (*gradient)(
      const BatchNormAct<A>&, const NormStretch&, const NormBackward&, const NormTables<A>&, const A* by_x,
      const A* level, void* x_grad);
};

// A batch norm by the batch's statistics, and the slope of its LeakyReLU below 0: scale = weight * rstd, shift = bias -
// mean * scale, one per channel.
struct BlockNorm {
  std::int64_t channels;
  const float* mean;
  const float* rstd;
  const float* scale;
  const float* shift;
  float slope;
};

// The input's side of a convolution, and its output channels. `zeros` are 9 * channels of them.
struct BlockImage {
  std::int64_t height, width, channels;
  const float* zeros;
};

// See generator_block.inl.
struct BlockKernels {
  void (*statistics)(const float* x, std::int64_t rows, std::int64_t channels, float* mean, float* squares);
  void (*normalize)(const BlockNorm&, const float* x, std::int64_t rows, float* out);
  void (*gather)(
      const BlockImage&, const float* taps, std::int64_t first, const float* bias, std::int64_t begin,
      std::int64_t end, float* out);
  void (*spread)(const BlockImage&, const float* grad, std::int64_t begin, std::int64_t end, float* taps);
  void (*stream)(const float* x, std::int64_t count, float* out);
  void (*add_rows)(const float* x, std::int64_t rows, std::int64_t channels, float* sums);
  void (*activation_gradient)(
      const BlockNorm&, const float* x, std::int64_t rows, float* grad, float* sums, float* products);
  void (*norm_gradient)(
      const BlockNorm&, const float* x, std::int64_t rows, const float* sums, const float* products, float* grad);
};

// Channels in transformed tiles and filters come in panels of this many, filled up with zeros.
constexpr std::int64_t panel_size = 32;

// Transformed tiles: component e of tile t at data + e * component, as panels [panel][tile][channel of the panel].
struct TransformedTiles {
  float* data;
  std::int64_t component;
  std::int64_t tiles;
};

// c[i][0..panel) (+)= sum over p of a(i, p) b[p][0..panel), all in panels; `a` lies as tiles do, [p's panel][i][p], or
// transposed, [i's panel][p][i]. `panel` is the distance of a's panels.
struct PanelProduct {
  const float* a;
  std::int64_t panel;
  bool transposed;
  const float* b;
  float* c;
  std::int64_t rows, depth;
  bool accumulate;
};

// Images [N, C, H, W] of float32 with their channels in one piece; strides in elements. `zeros` stands for pixels
// beyond the image: as many as there are channels.
struct Images {
  float* data = nullptr;
  std::int64_t channels, height, width;
  std::int64_t image, row, pixel;
  const float* zeros = nullptr;
};

// Tiles [first, first + count) of all images, in the order of images, rows and columns; and panels [begin, end).
struct TileRange {
  std::int64_t first, count;
  Range panels;
};

// What the output transform adds and cuts off; without bias, nothing.
struct WinogradEnd {
  const float* bias;
  bool relu;
};

// 3x3 filters, looked at as rows of panels: `lane` is the stride from channel to channel of a panel.
struct Filters {
  float* data;
  std::int64_t lanes, rows;
  std::int64_t lane, row, tap_row, tap_column;
};

// Winograd's F(tile x tile, 3x3), for tile 2 or 4; the adjoints are those of the linear maps.
struct WinogradKernels {
  void (*input)(int tile, const Images&, const TransformedTiles&, TileRange);
  void (*output)(int tile, const TransformedTiles&, const Images&, const WinogradEnd&, TileRange);
  // `result`, where it has data, is the output of a ReLU, whose gradient is cut off where that is not positive.
  void (*output_adjoint)(int tile, const Images& grad, const Images& result, const TransformedTiles&, TileRange);
  // Tiles overlap: they are whole images, and one panel of an image is added up by one call.
  void (*input_adjoint)(int tile, const TransformedTiles&, const Images&, TileRange);
  // Rows [begin, end) of one panel; `rows` of the target is a multiple of the panel's size.
  void (*filters)(int tile, const Filters&, const TransformedTiles&, std::int64_t panel, Range rows);
  void (*filters_adjoint)(int tile, const TransformedTiles&, const Filters&, std::int64_t panel, Range rows);
  // Adds the pixels [begin, end) of all images to sums, one per channel.
  void (*channel_sums)(const Images& grad, const Images& result, Range pixels, double* sums);
};

// Rows [begin, end) of tiles, all across, of images [image, image + images) of so many pixels: tiles lie as
// [row][image][tile of the row].
struct UpsampledTiles {
  std::int64_t height, width;
  std::int64_t image, images;
  std::int64_t begin, end;
};

// See upsampled.inl. Images are in channels_last.
struct UpsampledKernels {
  void (*input)(const BlockNorm&, const float* x, const UpsampledTiles& of, const TransformedTiles& target);
  void (*output)(
      const TransformedTiles& source, const UpsampledTiles& of, std::int64_t panel, const float* biases, float* out,
      std::int64_t channels, bool streamed, float* means, float* squares);
  void (*output_adjoint)(
      const float* grad, const UpsampledTiles& of, std::int64_t channels, const TransformedTiles& target);
  void (*input_adjoint)(
      const BlockNorm&, const float* x, const TransformedTiles& source, const UpsampledTiles& of, std::int64_t panel,
      float* grad, float* sums, float* products);
};

// Rows of pixels of an image that was convolved to few channels.
struct NarrowRows {
  std::int64_t rows, width, out;
  const float* grads;    // of the output, [rows + 2, width + 2, out]
  const float* weights;  // [out, 9, in]
  float* weight_sums;    // the same, or none
  float* partial;        // a register of channels for each pixel of a row
};

// See narrow.inl.
struct NarrowKernels {
  void (*sums)(const NarrowRows&, const BlockNorm&, const float* x, float* sums, float* products);
  void (*gradient)(
      const NarrowRows&, const BlockNorm&, const float* x, const float* sums, const float* products, bool streamed,
      float* x_grad);
};

// Rows of an image as a direct convolution reads them, [row][phase][block][pixel][8 channels]: every `row_step`-th of
// the image from `row` on, and in each phase every `step`-th column from columns[phase] on. Beyond the image, zeros.
struct PackedRows {
  float* data;
  std::int64_t row, row_step, rows;
  std::int64_t phases, columns[2], step, pixels;
};

// Where a tap finds its input, beside that of the first output pixel, and its weights, in floats.
struct ConvolutionTap {
  std::int64_t source, weights;
};

// Rows of output pixels. `weights` are [tap][in][lanes], where lanes are the output channels filled up to a multiple of
// 8; `row` and `block` are distances in the packed input, from one output row to the next and from block to block.
struct DirectConvolution {
  const float* source;
  std::int64_t row, block, channels;
  const ConvolutionTap* tap;
  std::int64_t taps;
  const float* weights;
  std::int64_t lanes;
  float* out;
  std::int64_t rows, columns, out_channels, out_row, out_pixel;
};

// What is added to the sums, and the slope of the activation below 0; 1 for none. `bias` and the rows of `shifted_sums`
// hold `lanes` numbers: the first pixel, and the sums of the differences from it and of their squares.
struct DirectEnd {
  const float* bias = nullptr;
  const float* residual = nullptr;
  std::int64_t residual_row = 0, residual_pixel = 0;
  float slope = 1;
  float* shifted_sums = nullptr;
};

// As DirectConvolution; `grads` are of its output, with `lanes` channels in one piece, and `sums` [tap][in][lanes] are
// added to. Taps are 1 or rows of 3.
struct DirectWeightGradient {
  const float* source;
  std::int64_t row, block, channels;
  const ConvolutionTap* tap;
  std::int64_t taps;
  const float* grads;
  std::int64_t rows, columns, grad_row, grad_pixel, lanes;
  float* sums;
};

// So many tiles at a time; there is room for more, which registers may compute beside them.
constexpr std::int64_t narrow_tiles = 28, narrow_room = 36;

// Tiles of 4x4 pixels [first, first + count) of all images, in the order of images, rows and columns. `component` is the
// distance of their transformed components.
struct NarrowTiles {
  std::int64_t first, count, component;
};

// As DirectEnd, for images.
struct TilesEnd {
  const float* bias = nullptr;
  Images residual;
  float slope = 1;
  float* shifted_sums = nullptr;
};

// sums[component][tile][lanes] = tiles[component][block][tile][8 channels] times weights[component][in][lanes].
struct TileProducts {
  const float* tiles;
  std::int64_t count, component, channels;
  const float* weights;
  std::int64_t lanes;
  float* sums;
  std::int64_t sums_component;
};

// See tiles.inl.
struct TilesKernels {
  void (*input)(const Images&, const NarrowTiles&, float* out);
  void (*gradient)(const Images&, const NarrowTiles&, float* out);
  std::int64_t (*output)(const float* sums, const Images& out, const NarrowTiles&, const TilesEnd&);
  void (*multiply)(const TileProducts&);
  // Adds to `sums`, [component][in][lanes], the products with gradients that lie as the sums of TileProducts do.
  void (*weight_gradient)(const TileProducts&, const float* grads, float* sums);
  void (*filters)(const float* filters, std::int64_t count, float* out);
  void (*filters_adjoint)(const float* sums, std::int64_t count, float* out);
};

// See direct.inl.
struct DirectKernels {
  void (*pack)(const Images&, std::int64_t image, const PackedRows& to);
  void (*convolve)(const DirectConvolution&, const DirectEnd&);
  void (*weight_gradient)(const DirectWeightGradient&);
  void (*cut)(const float* grad, const float* result, float slope, std::int64_t count, float* out);
};

// For one compute type.
template <class A>
struct KernelsOf {
  HingeKernels<A> hinge;
  L1Kernels l1;
  MixKernel<A> mix;
  InterpolatedKernels interpolated;
  KLKernels<A> kl;
  ChannelKernels<A> channels;
  NormKernels<A> norm;
};

struct Kernels {
  KernelsOf<float> f32;
  KernelsOf<double> f64;
  BlockKernels block;
  void (*multiply)(const PanelProduct&);
  WinogradKernels winograd;
  UpsampledKernels upsampled;
  NarrowKernels narrow;
  DirectKernels direct;
  TilesKernels tiles;

  template <class A>
  const KernelsOf<A>& of() const {
    if constexpr (sizeof(A) == sizeof(double)) {
      return f64;
    } else {
      return f32;
    }
  }
};

namespace base {
extern const Kernels kernels;
}
namespace avx2 {
extern const Kernels kernels;
}
namespace avx512 {
extern const Kernels kernels;
}

}  // namespace dfad::cpu
