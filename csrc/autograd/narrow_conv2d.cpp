#include <ATen/core/LegacyTypeDispatch.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "../ops.h"
#include "given.h"

namespace dfad::autograd {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr const char* name = "narrow_conv2d";
// The differentiable inputs: x, weight, bias, residual.
constexpr size_t inputs = 4;

class NarrowConv2d : public torch::autograd::Function<NarrowConv2d> {
 public:
  static at::Tensor forward(
      AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight, const OptionalTensor& bias,
      const OptionalTensor& residual, at::Tensor* computed, int64_t stride, double slope,
      int64_t tile) {
    const at::Tensor out = std::move(*computed);
    ctx->save_for_backward({savable(x), savable(weight), slope == 1 ? at::Tensor() : out});
    note_given(ctx, {true, true, bias.has_value(), residual.has_value()});
    ctx->saved_data["stride"] = stride;
    ctx->saved_data["slope"] = slope;
    ctx->saved_data["tile"] = tile;
    return out;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grad) {
    const auto saved = ctx->get_saved_variables();
    const double slope = ctx->saved_data["slope"].toDouble();
    auto wanted = wanted_gradients<inputs>(ctx);
    // Without an activation nothing is to be computed for the residual.
    const bool passes_on = slope == 1 && wanted[3];
    if (passes_on) wanted[3] = false;
    const auto results = ops::narrow_conv2d_backward(
        grad[0], saved[0], saved[1], optional(saved[2]),
        ctx->saved_data["stride"].toInt(), slope, ctx->saved_data["tile"].toInt(), wanted);
    variable_list grads = in_places(wanted, results, 4);
    if (passes_on) grads[3] = grad[0];
    return grads;
  }
};

std::tuple<at::Tensor, at::Tensor> narrow_conv2d(
    const at::Tensor& x, const at::Tensor& weight, const OptionalTensor& bias, const OptionalTensor& residual,
    int64_t stride, double slope, bool statistics, int64_t tile) {
  std::tuple<at::Tensor, at::Tensor> result;
  {
    at::AutoDispatchBelowADInplaceOrView guard;
    result = ops::narrow_conv2d(x, weight, bias, residual, stride, slope, statistics, tile);
  }
  const bool any = needs_node(x) || needs_node(weight) || needs_node(bias) || needs_node(residual);
  if (!at::GradMode::is_enabled() || !any) return result;
  auto& [out, found] = result;
  out = NarrowConv2d::apply(x, weight, bias, residual, &out, stride, slope, tile);
  return result;
}

std::vector<at::Tensor> narrow_conv2d_backward(
    const at::Tensor& grad, const at::Tensor& x, const at::Tensor& weight, const OptionalTensor& out, int64_t stride,
    double slope, int64_t tile, std::array<bool, inputs> wanted) {
  std::vector<at::Tensor> grads;
  {
    at::AutoDispatchBelowADInplaceOrView guard;
    grads = ops::narrow_conv2d_backward(grad, x, weight, out, stride, slope, tile, wanted);
  }
  return once_differentiable(name, {grad, x, weight}, std::move(grads));
}

TORCH_LIBRARY_IMPL(dfad_fast, Autograd, m) {
  m.impl("narrow_conv2d", narrow_conv2d);
  m.impl("narrow_conv2d_backward", narrow_conv2d_backward);
}

}  // namespace
}  // namespace dfad::autograd
