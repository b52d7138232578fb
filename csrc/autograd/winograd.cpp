#include <ATen/core/LegacyTypeDispatch.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "../ops.h"
#include "given.h"

namespace dfad::autograd {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr const char* name = "winograd_conv2d";

class WinogradConv2d : public torch::autograd::Function<WinogradConv2d> {
 public:
  static at::Tensor forward(
      AutogradContext* ctx, const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
      const std::optional<at::Tensor>* adjoint, at::Tensor* computed, bool keep_x, int64_t tile, bool relu) {
    const at::Tensor result = std::move(*computed);
    ctx->save_for_backward(
        {keep_x ? savable(x) : at::Tensor(), savable(weight), relu ? result : at::Tensor(),
         savable(*adjoint)});
    ctx->saved_data["bias"] = bias.has_value();
    ctx->saved_data["tile"] = tile;
    return result;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grad) {
    const auto saved = ctx->get_saved_variables();
    const bool x = ctx->needs_input_grad(0), weight = ctx->needs_input_grad(1);
    const bool bias = ctx->saved_data["bias"].toBool() && ctx->needs_input_grad(2);
    const auto wanted = ops::winograd_conv2d_backward(
        grad[0], optional(saved[0]), saved[1], optional(saved[2]), optional(saved[3]), ctx->saved_data["tile"].toInt(), x,
        weight, bias);
    variable_list results(8);
    size_t next = 0;
    if (x) results[0] = wanted[next++];
    if (weight) results[1] = wanted[next++];
    if (bias) results[2] = wanted[next++];
    return results;
  }
};

at::Tensor winograd_conv2d(
    const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
    const std::optional<at::Tensor>& transformed, const std::optional<at::Tensor>& adjoint, int64_t tile, bool relu) {
  at::Tensor result;
  {
    at::AutoDispatchBelowADInplaceOrView guard;
    result = ops::winograd_conv2d(x, weight, bias, transformed, adjoint, tile, relu);
  }
  const bool to_weight = needs_node(weight);
  if (!at::GradMode::is_enabled() || !(needs_node(x) || to_weight || needs_node(bias))) return result;
  return WinogradConv2d::apply(x, weight, bias, &adjoint, &result, to_weight, tile, relu);
}

std::vector<at::Tensor> winograd_conv2d_backward(
    const at::Tensor& grad, const std::optional<at::Tensor>& x, const at::Tensor& weight,
    const std::optional<at::Tensor>& result, const std::optional<at::Tensor>& adjoint, int64_t tile, bool x_grad,
    bool weight_grad, bool bias_grad) {
  std::vector<at::Tensor> grads;
  {
    at::AutoDispatchBelowADInplaceOrView guard;
    grads = ops::winograd_conv2d_backward(grad, x, weight, result, adjoint, tile, x_grad, weight_grad, bias_grad);
  }
  std::vector<at::Tensor> inputs = {grad, weight};
  if (x) inputs.push_back(*x);
  return once_differentiable(name, inputs, std::move(grads));
}

at::Tensor winograd_weight(const at::Tensor& weight, int64_t tile, bool adjoint) {
  at::AutoDispatchBelowADInplaceOrView guard;
  return ops::winograd_weight(weight, tile, adjoint);
}

TORCH_LIBRARY_IMPL(dfad_fast, Autograd, m) {
  m.impl("winograd_weight", winograd_weight);
  m.impl("winograd_conv2d", winograd_conv2d);
  m.impl("winograd_conv2d_backward", winograd_conv2d_backward);
}

}  // namespace
}  // namespace dfad::autograd
