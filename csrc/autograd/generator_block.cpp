#include <ATen/core/LegacyTypeDispatch.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "../ops.h"
#include "given.h"

namespace dfad::autograd {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr const char* name = "generator_block";
// The differentiable inputs: x, norm_weight, norm_bias, weight, bias.
constexpr size_t inputs = 5;

class GeneratorBlock : public torch::autograd::Function<GeneratorBlock> {
 public:
  static at::Tensor forward(
      AutogradContext* ctx, const at::Tensor& x, const OptionalTensor& norm_weight, const OptionalTensor& norm_bias,
      const at::Tensor& weight, const OptionalTensor& bias, at::Tensor* out,
      const at::Tensor* statistics, int64_t upsample, double slope, double eps) {
    ctx->save_for_backward(
        {savable(x), *statistics, savable(norm_weight), savable(norm_bias), savable(weight)});
    note_given(ctx, {true, norm_weight.has_value(), norm_bias.has_value(), true, bias.has_value()});
    ctx->saved_data["upsample"] = upsample;
    ctx->saved_data["slope"] = slope;
    ctx->saved_data["eps"] = eps;
    return std::move(*out);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grad) {
    const auto saved = ctx->get_saved_variables();
    const auto wanted = wanted_gradients<inputs>(ctx);
    const auto results = ops::generator_block_backward(
        grad[0], saved[0], saved[1], optional(saved[2]), optional(saved[3]), saved[4],
        ctx->saved_data["upsample"].toInt(), ctx->saved_data["slope"].toDouble(), ctx->saved_data["eps"].toDouble(),
        wanted);
    return in_places(wanted, results, 5);
  }
};

std::tuple<at::Tensor, at::Tensor, at::Tensor> generator_block(
    const at::Tensor& x, const OptionalTensor& given, const OptionalTensor& norm_weight,
    const OptionalTensor& norm_bias, const at::Tensor& weight, const OptionalTensor& bias, int64_t upsample,
    double slope, double eps) {
  std::tuple<at::Tensor, at::Tensor, at::Tensor> result;
  {
    at::AutoDispatchBelowADInplaceOrView guard;
    result = ops::generator_block(x, given, norm_weight, norm_bias, weight, bias, upsample, slope, eps);
  }
  const bool any = needs_node(x) || needs_node(norm_weight) || needs_node(norm_bias) || needs_node(weight) ||
      needs_node(bias);
  if (!at::GradMode::is_enabled() || !any) return result;
  auto& [out, statistics, out_statistics] = result;
  out = GeneratorBlock::apply(x, norm_weight, norm_bias, weight, bias, &out, &statistics, upsample, slope, eps);
  return result;
}

std::vector<at::Tensor> generator_block_backward(
    const at::Tensor& grad, const at::Tensor& x, const at::Tensor& statistics, const OptionalTensor& norm_weight,
    const OptionalTensor& norm_bias, const at::Tensor& weight, int64_t upsample, double slope, double eps,
    std::array<bool, inputs> wanted) {
  std::vector<at::Tensor> grads;
  {
    at::AutoDispatchBelowADInplaceOrView guard;
    grads = ops::generator_block_backward(
        grad, x, statistics, norm_weight, norm_bias, weight, upsample, slope, eps, wanted);
  }
  return once_differentiable(name, {grad, x, weight}, std::move(grads));
}

TORCH_LIBRARY_IMPL(dfad_fast, Autograd, m) {
  m.impl("generator_block", generator_block);
  m.impl("generator_block_backward", generator_block_backward);
}

}  // namespace
}  // namespace dfad::autograd
