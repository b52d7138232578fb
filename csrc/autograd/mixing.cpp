#include <ATen/core/LegacyTypeDispatch.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include "../checks.h"
#include "../ops.h"
#include "once.h"

namespace dfad::autograd {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr const char* name = "mixup";

// Its inputs are only those tensors of the batch that require a gradient, and its outputs their mixtures.
class Mixup : public torch::autograd::Function<Mixup> {
 public:
  static variable_list forward(
      AutogradContext* ctx, at::TensorList, const at::Tensor& lam, const at::Tensor& perm, variable_list* mixtures) {
    ctx->save_for_backward({savable(lam), savable(perm)});
    ctx->set_materialize_grads(false);
    return std::move(*mixtures);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto saved = ctx->get_saved_variables();
    variable_list wanted;
    for (size_t i = 0; i < grads.size(); ++i) {
      if (needed(ctx, grads, i)) wanted.push_back(grads[i]);
    }
    variable_list results(grads.size() + 3);
    if (wanted.empty()) return results;
    const auto mixed = ops::mixup_backward(wanted, saved[0], saved[1]);
    for (size_t i = 0, next = 0; i < grads.size(); ++i) {
      if (needed(ctx, grads, i)) results[i] = mixed[next++];
    }
    return results;
  }

 private:
  // A mixture that nothing was computed from has no gradient.
  static bool needed(AutogradContext* ctx, const variable_list& grads, size_t i) {
    return grads[i].defined() && ctx->needs_input_grad(i);
  }
};

std::vector<at::Tensor> mixup(at::TensorList tensors, const at::Tensor& lam, const at::Tensor& perm) {
  check_lam_has_no_gradient(name, lam);
  std::vector<at::Tensor> mixed;
  {
    at::AutoDispatchBelowADInplaceOrView guard;
    mixed = ops::mixup(tensors, lam, perm);
  }
  if (!at::GradMode::is_enabled()) return mixed;
  variable_list inputs, mixtures;
  std::vector<size_t> positions;
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (!needs_node(tensors[i])) continue;
    inputs.push_back(tensors[i]);
    mixtures.push_back(mixed[i]);
    positions.push_back(i);
  }
  if (inputs.empty()) return mixed;
  const variable_list tracked = Mixup::apply(at::TensorList(inputs), lam, perm, &mixtures);
  for (size_t i = 0; i < positions.size(); ++i) mixed[positions[i]] = tracked[i];
  return mixed;
}

std::vector<at::Tensor> mixup_backward(at::TensorList grads, const at::Tensor& lam, const at::Tensor& perm) {
  std::vector<at::Tensor> results;
  {
    at::AutoDispatchBelowADInplaceOrView guard;
    results = ops::mixup_backward(grads, lam, perm);
  }
  return once_differentiable(name, grads, std::move(results));
}

TORCH_LIBRARY_IMPL(dfad_fast, Autograd, m) {
  m.impl("mixup", mixup);
  m.impl("mixup_backward", mixup_backward);
}

}  // namespace
}  // namespace dfad::autograd
