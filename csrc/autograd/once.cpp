#include "once.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

namespace dfad::autograd {
namespace {

class Once : public torch::autograd::Function<Once> {
 public:
  static torch::autograd::variable_list forward(
      torch::autograd::AutogradContext* ctx, at::TensorList inputs, std::vector<at::Tensor>* results, const char* op) {
    ctx->saved_data["op"] = std::string(op);
    return std::move(*results);
  }

  static torch::autograd::variable_list backward(
      torch::autograd::AutogradContext* ctx, const torch::autograd::variable_list&) {
    TORCH_CHECK_NOT_IMPLEMENTED(
        false, ctx->saved_data["op"].toStringRef(),
        ": double backward is not implemented by the compiled kernels; dfad_fast.backends.use_backend('reference') "
        "gives an op that can be differentiated twice");
  }
};

}  // namespace

at::Tensor savable(const at::Tensor& x) { return x.is_inference() ? x.clone() : x; }

bool needs_node(const at::Tensor& x) {
  return x.requires_grad() || x._fw_grad(/*level=*/0).defined();
}

void check_lam_has_no_gradient(const char* op, const at::Tensor& lam) {
  TORCH_CHECK_VALUE(!needs_node(lam), op, ": lam gets no gradient and must not require one, pass lam.detach()");
}

std::vector<at::Tensor> once_differentiable(
    const char* op, at::TensorList inputs, std::vector<at::Tensor> results) {
  if (!at::GradMode::is_enabled() || std::none_of(inputs.begin(), inputs.end(), needs_node)) return results;
  return Once::apply(inputs, &results, op);
}

std::vector<at::Tensor> once_differentiable(const char* op, std::vector<at::Tensor> results) {
  // Those of a gradient that requires one have a node, which leads to it.
  const bool have_node = std::any_of(results.begin(), results.end(), needs_node);
  if (!at::GradMode::is_enabled() || have_node) return results;
  return once_differentiable(op, {at::empty({0}).requires_grad_()}, std::move(results));
}

}  // namespace dfad::autograd
