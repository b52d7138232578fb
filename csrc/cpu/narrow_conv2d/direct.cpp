#include "narrow_conv2d.h"
#include "plan.h"

namespace dfad::cpu::narrow_conv2d {
namespace {

// Items are the bands of each image's rows.
class DirectItems : public Convolution {
 public:
  DirectItems(
      const Kernels& kernels, Plan plan, const at::Tensor& x, const at::Tensor& weights, const at::Tensor& out,
      const Ends& ends)
      : kernels_(kernels), plan_(std::move(plan)), x_(x), weights_(weights), in_(images_of(x)), out_(images_of(out)),
        ends_(ends) {}

  int64_t items() const override { return x_.size(0) * plan_.bands(); }
  int64_t memory() const override { return plan_.packed_floats(); }

  int64_t run(int64_t item, float* memory, float* shifted_sums) const override {
    const int64_t image = item / plan_.bands(), band = item % plan_.bands(), lanes = lanes_of(plan_.out);
    kernels_.direct.pack(in_, image, plan_.packed(band, memory));
    int64_t computed = 0;
    for (const Pixels& pixels : plan_.pixels) {
      const int64_t row = plan_.first_row(band, pixels), rows = plan_.rows(band, pixels);
      const auto at = [&](const Images& x) { return x.data + image * x.image + row * x.row + pixels.column * x.pixel; };
      DirectEnd end;
      end.bias = ends_.bias;
      end.slope = ends_.slope;
      if (ends_.residual.data != nullptr) {
        end.residual = at(ends_.residual);
        end.residual_row = ends_.residual.row;
        end.residual_pixel = ends_.residual.pixel;
      }
      end.shifted_sums = shifted_sums;
      kernels_.direct.convolve(
          {memory, plan_.row(), plan_.block(), plan_.in, pixels.taps.data(), static_cast<int64_t>(pixels.taps.size()),
           weights_.const_data_ptr<float>(), lanes, at(out_), rows, plan_.columns(pixels), plan_.out,
           pixels.step * out_.row, pixels.step * out_.pixel},
          end);
      computed += rows * plan_.columns(pixels);
    }
    return computed;
  }

 private:
  const Kernels& kernels_;
  Plan plan_;
  at::Tensor x_, weights_;
  Images in_, out_;
  Ends ends_;
};

// Its channels filled up to whole lanes, as the weights' gradient reads it.
at::Tensor with_whole_lanes(const at::Tensor& grad) {
  const int64_t lanes = lanes_of(grad.size(1));
  if (lanes == grad.size(1)) return grad;
  at::Tensor filled = empty_images({grad.size(0), lanes, grad.size(2), grad.size(3)}, grad);
  filled.zero_().narrow(1, 0, grad.size(1)).copy_(grad);
  return filled;
}

class DirectWeights : public WeightGradient {
 public:
  DirectWeights(const Kernels& kernels, Plan plan, const at::Tensor& x, const at::Tensor& grad)
      : kernels_(kernels), plan_(std::move(plan)), x_(x), filled_(with_whole_lanes(grad)), in_(images_of(x)),
        grad_(images_of(filled_)) {}

  int64_t items() const override { return x_.size(0) * plan_.bands(); }
  int64_t memory() const override { return plan_.packed_floats(); }
  int64_t size() const override {
    return static_cast<int64_t>(plan_.pixels[0].taps.size()) * plan_.in * lanes_of(plan_.out);
  }

  void add(int64_t item, float* memory, float* sums) const override {
    const int64_t image = item / plan_.bands(), band = item % plan_.bands();
    const Pixels& pixels = plan_.pixels[0];
    kernels_.direct.pack(in_, image, plan_.packed(band, memory));
    kernels_.direct.weight_gradient(
        {memory, plan_.row(), plan_.block(), plan_.in, pixels.taps.data(), static_cast<int64_t>(pixels.taps.size()),
         grad_.data + image * grad_.image + plan_.first_row(band, pixels) * grad_.row, plan_.rows(band, pixels),
         plan_.width, grad_.row, grad_.pixel, lanes_of(plan_.out), sums});
  }

  at::Tensor packed(const at::Tensor& sums) const override { return sums; }

 private:
  const Kernels& kernels_;
  Plan plan_;
  at::Tensor x_, filled_;
  Images in_, grad_;
};

}  // namespace

std::unique_ptr<Convolution> direct_convolution(
    const Kernels& kernels, const at::Tensor& x, const at::Tensor& packed_weight, int64_t kernel, int64_t stride,
    bool adjoint, const at::Tensor& out, const Ends& ends) {
  Plan plan = adjoint ? Plan::adjoint(kernel, stride, out.size(1), x.size(1), out.size(2), out.size(3))
                      : Plan::forward(kernel, stride, x.size(1), out.size(1), x.size(2), x.size(3));
  return std::make_unique<DirectItems>(kernels, std::move(plan), x, packed_weight, out, ends);
}

std::unique_ptr<WeightGradient> direct_weight_gradient(
    const Kernels& kernels, const at::Tensor& x, const at::Tensor& grad, int64_t kernel, int64_t stride) {
  return std::make_unique<DirectWeights>(
      kernels, Plan::forward(kernel, stride, x.size(1), grad.size(1), x.size(2), x.size(3)), x, grad);
}

}  // namespace dfad::cpu::narrow_conv2d
