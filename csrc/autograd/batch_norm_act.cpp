#include <ATen/core/LegacyTypeDispatch.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "../ops.h"
#include "given.h"

namespace dfad::autograd {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr const char* name = "batch_norm_act";
// The differentiable inputs: x, residual, weight, bias.
constexpr size_t inputs = 4;

class BatchNormAct : public torch::autograd::Function<BatchNormAct> {
 public:
  static at::Tensor forward(
      AutogradContext* ctx, const at::Tensor& x, const OptionalTensor& residual, const OptionalTensor& weight,
      const OptionalTensor& bias, at::Tensor* out, const at::Tensor* statistics, bool constant, double slope,
      double eps) {
    // Which side of the activation a value was on is read from the output, where x alone does not tell.
    const bool reads_output = residual.has_value() && slope != 1;
    ctx->save_for_backward(
        {savable(x), reads_output ? *out : at::Tensor(), savable(weight), savable(bias), *statistics});
    note_given(ctx, {true, residual.has_value(), weight.has_value(), bias.has_value()});
    ctx->saved_data["constant"] = constant;
    ctx->saved_data["slope"] = slope;
    ctx->saved_data["eps"] = eps;
    return std::move(*out);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grad) {
    const auto saved = ctx->get_saved_variables();
    const auto wanted = wanted_gradients<inputs>(ctx);
    const auto results = ops::batch_norm_act_backward(
        grad[0], saved[0], optional(saved[1]), optional(saved[2]), optional(saved[3]), saved[4],
        ctx->saved_data["constant"].toBool(), ctx->saved_data["slope"].toDouble(),
        ctx->saved_data["eps"].toDouble(), wanted);
    return in_places(wanted, results, 5);
  }
};

std::tuple<at::Tensor, at::Tensor> batch_norm_act(
    const at::Tensor& x, const OptionalTensor& residual, const OptionalTensor& weight, const OptionalTensor& bias,
    const OptionalTensor& given, bool constant, double slope, double eps) {
  std::tuple<at::Tensor, at::Tensor> result;
  {
    at::AutoDispatchBelowADInplaceOrView guard;
    result = ops::batch_norm_act(x, residual, weight, bias, given, constant, slope, eps);
  }
  const bool any = needs_node(x) || needs_node(residual) || needs_node(weight) || needs_node(bias);
  if (!at::GradMode::is_enabled() || !any) return result;
  auto& [out, statistics] = result;
  out = BatchNormAct::apply(x, residual, weight, bias, &out, &statistics, constant, slope, eps);
  return result;
}

std::vector<at::Tensor> batch_norm_act_backward(
    const at::Tensor& grad, const at::Tensor& x, const OptionalTensor& out, const OptionalTensor& weight,
    const OptionalTensor& bias, const at::Tensor& statistics, bool constant, double slope, double eps,
    std::array<bool, inputs> wanted) {
  std::vector<at::Tensor> grads;
  {
    at::AutoDispatchBelowADInplaceOrView guard;
    grads = ops::batch_norm_act_backward(grad, x, out, weight, bias, statistics, constant, slope, eps, wanted);
  }
  std::vector<at::Tensor> dependencies = {grad, x};
  if (weight) dependencies.push_back(*weight);
  return once_differentiable(name, dependencies, std::move(grads));
}

TORCH_LIBRARY_IMPL(dfad_fast, Autograd, m) {
  m.impl("batch_norm_act", batch_norm_act);
  m.impl("batch_norm_act_backward", batch_norm_act_backward);
}

}  // namespace
}  // namespace dfad::autograd
