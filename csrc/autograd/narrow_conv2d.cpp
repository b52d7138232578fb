#include <ATen/core/LegacyTypeDispatch.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "../ops.h"
#include "once.h"

namespace dfad::autograd {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using OptionalTensor = std::optional<at::Tensor>;

constexpr const char* name = "narrow_conv2d";
// Of the differentiable inputs: x, weight, bias, residual.
constexpr size_t inputs = 4;

class NarrowConv2d : public torch::autograd::Function<NarrowConv2d> {
 public:
  static at::Tensor forward(
      AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight, const OptionalTensor& bias,
      const OptionalTensor& residual, at::Tensor* computed, int64_t stride, double slope,
      int64_t tile) {
    const at::Tensor out = std::move(*computed);
    ctx->save_for_backward({savable(x), savable(weight), slope == 1 ? at::Tensor() : out});
    // needs_input_grad counts only the inputs that are given.
    ctx->saved_data["bias"] = bias.has_value();
    ctx->saved_data["residual"] = residual.has_value();
    ctx->saved_data["stride"] = stride;
    ctx->saved_data["slope"] = slope;
    ctx->saved_data["tile"] = tile;
    return out;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grad) {
    const auto saved = ctx->get_saved_variables();
    const std::array<bool, inputs> given = {
        true, true, ctx->saved_data["bias"].toBool(), ctx->saved_data["residual"].toBool()};
    const double slope = ctx->saved_data["slope"].toDouble();
    std::array<bool, inputs> wanted;
    size_t edge = 0;
    for (size_t i = 0; i < inputs; ++i) wanted[i] = given[i] && ctx->needs_input_grad(edge++);
    variable_list grads(inputs + 4);
    // Without an activation nothing is to be computed for it.
    if (slope == 1 && wanted[3]) {
      grads[3] = grad[0];
      wanted[3] = false;
    }
    const auto results = ops::narrow_conv2d_backward(
        grad[0], saved[0], saved[1], saved[2].defined() ? OptionalTensor(saved[2]) : std::nullopt,
        ctx->saved_data["stride"].toInt(), slope, ctx->saved_data["tile"].toInt(), wanted);
    auto next = results.begin();
    for (size_t i = 0; i < inputs; ++i) {
      if (wanted[i]) grads[i] = *next++;
    }
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
  const auto wants = [](const OptionalTensor& t) { return t && needs_node(*t); };
  if (!at::GradMode::is_enabled() || !(needs_node(x) || needs_node(weight) || wants(bias) || wants(residual))) {
    return result;
  }
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
