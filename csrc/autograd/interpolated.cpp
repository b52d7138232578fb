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

constexpr const char* name = "interpolated_l1";

class InterpolatedL1 : public torch::autograd::Function<InterpolatedL1> {
 public:
  static at::Tensor forward(
      AutogradContext* ctx, const at::Tensor& student, const at::Tensor& teacher, const at::Tensor& lam,
      const at::Tensor& perm, at::Tensor* loss, Reduction reduction) {
    ctx->save_for_backward({savable(student), savable(teacher), savable(lam), savable(perm)});
    ctx->saved_data["reduction"] = static_cast<int64_t>(reduction);
    return std::move(*loss);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grad) {
    const auto saved = ctx->get_saved_variables();
    const auto reduction = static_cast<Reduction>(ctx->saved_data["reduction"].toInt());
    const bool student = ctx->needs_input_grad(0), teacher = ctx->needs_input_grad(1);
    const auto wanted = ops::interpolated_l1_backward(
        grad[0], saved[0], saved[1], saved[2], saved[3], name_of(reduction), student, teacher);
    variable_list grads(6);
    if (student) grads[0] = wanted.front();
    if (teacher) grads[1] = wanted.back();
    return grads;
  }
};

at::Tensor interpolated_l1(
    const at::Tensor& student, const at::Tensor& teacher, const at::Tensor& lam, const at::Tensor& perm,
    std::string_view reduction, std::optional<at::ScalarType> dtype) {
  check_lam_has_no_gradient(name, lam);
  at::Tensor loss;
  {
    at::AutoDispatchBelowADInplaceOrView guard;
    loss = ops::interpolated_l1(student, teacher, lam, perm, reduction, dtype);
  }
  if (!at::GradMode::is_enabled() || !(needs_node(student) || needs_node(teacher))) return loss;
  return InterpolatedL1::apply(student, teacher, lam, perm, &loss, check_reduction(name, reduction));
}

std::vector<at::Tensor> interpolated_l1_backward(
    const at::Tensor& grad, const at::Tensor& student, const at::Tensor& teacher, const at::Tensor& lam,
    const at::Tensor& perm, std::string_view reduction, bool student_grad, bool teacher_grad) {
  std::vector<at::Tensor> grads;
  {
    at::AutoDispatchBelowADInplaceOrView guard;
    grads = ops::interpolated_l1_backward(grad, student, teacher, lam, perm, reduction, student_grad, teacher_grad);
  }
  return once_differentiable(name, {grad, student, teacher}, std::move(grads));
}

TORCH_LIBRARY_IMPL(dfad_fast, Autograd, m) {
  m.impl("interpolated_l1", interpolated_l1);
  m.impl("interpolated_l1_backward", interpolated_l1_backward);
}

}  // namespace
}  // namespace dfad::autograd
