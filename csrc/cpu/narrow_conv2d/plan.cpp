#include "plan.h"

namespace dfad::cpu::narrow_conv2d {
namespace {

// Floats of packed input; a quarter of the second cache of the machine where it was measured.
constexpr int64_t kept_floats = 64 << 10;

}  // namespace

Plan Plan::forward(int64_t kernel, int64_t stride, int64_t in, int64_t out, int64_t height, int64_t width) {
  Plan plan;
  plan.in = in;
  plan.out = out;
  plan.height = plan.units_ = divided_up(height, stride);
  plan.width = divided_up(width, stride);
  plan.factor_ = stride;
  const bool three = kernel == 3;
  plan.offset_ = three ? -1 : 0;
  plan.row_step_ = three ? 1 : stride;
  plan.advance_ = three ? stride : 1;
  plan.more_ = three ? 2 : 0;
  // A stride of 2 reads even and odd columns apart, so that its pixels lie side by side too.
  plan.phases_ = three ? stride : 1;
  plan.columns_[0] = plan.offset_;
  plan.columns_[1] = 0;
  plan.step_ = stride;
  plan.across_ = plan.width + (three ? 2 / stride : 0);
  Pixels all = {0, 0, 1, {}};
  for (int64_t tap = 0; tap < kernel * kernel; ++tap) {
    const int64_t column = tap % kernel;
    all.taps.push_back(
        {plan.place(tap / kernel, column % plan.phases_, column / plan.phases_), tap * in * lanes_of(out)});
  }
  plan.pixels = {all};
  plan.cut();
  return plan;
}

Plan Plan::adjoint(int64_t kernel, int64_t stride, int64_t in, int64_t out, int64_t height, int64_t width) {
  if (stride == 1) return forward(kernel, 1, out, in, height, width);
  Plan plan;
  plan.in = out;
  plan.out = in;
  plan.height = height;
  plan.width = width;
  plan.units_ = divided_up(height, stride);
  plan.factor_ = plan.row_step_ = plan.advance_ = plan.phases_ = plan.step_ = 1;
  plan.offset_ = plan.columns_[0] = plan.columns_[1] = 0;
  plan.more_ = kernel / 2;
  plan.across_ = divided_up(width, stride) + kernel / 2;
  for (int64_t row = 0; row < 2; ++row) {
    for (int64_t column = 0; column < 2; ++column) {
      Pixels some = {row, column, 2, {}};
      // Filters are turned: tap 0 of a row of 3 reads the gradient to the right, which an odd column has alone.
      for (int64_t tap = 0; tap < kernel * kernel; ++tap) {
        const int64_t down = row + kernel / 2 - tap / kernel, right = column + kernel / 2 - tap % kernel;
        if (down % 2 != 0 || right % 2 != 0) continue;
        some.taps.push_back(
            {plan.place(down / 2, 0, right / 2), (kernel * kernel - 1 - tap) * out * lanes_of(in)});
      }
      plan.pixels.push_back(some);
    }
  }
  plan.cut();
  return plan;
}

void Plan::cut() {
  const int64_t kept_rows = kept_floats / std::max<int64_t>(1, row_floats());  // an image may have no columns
  band_ = std::clamp<int64_t>((kept_rows - 1 - more_) / advance_ + 1, 1, std::max<int64_t>(units_, 1));
  // As even as can be.
  const int64_t count = bands();
  if (count > 0) band_ = divided_up(units_, count);
}

PackedRows Plan::packed(int64_t band, float* memory) const {
  const int64_t first = band * band_, units = std::min(band_, units_ - first);
  return {
      memory, factor_ * first + offset_, row_step_, rows_of(units), phases_, {columns_[0], columns_[1]}, step_, across_};
}

int64_t Plan::rows(int64_t band, const Pixels& of) const {
  const int64_t all = divided_up(height - of.row, of.step);
  return std::min((band + 1) * band_, all) - band * band_;
}

}  // namespace dfad::cpu::narrow_conv2d
