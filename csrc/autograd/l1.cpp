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

constexpr const char* name = "l1_discrepancy";

class L1Discrepancy : public torch::autograd::Function<L1Discrepancy> {
 public:
  static at::Tensor forward(
      AutogradContext* ctx, const at::Tensor& student, const at::Tensor& teacher, at::Tensor* loss,
      Reduction reduction) {
    ctx->save_for_backward({savable(student), savable(teacher)});
    ctx->saved_data["reduction"] = static_cast<int64_t>(reduction);
    return std::move(*loss);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grad) {
    const auto saved = ctx->get_saved_variables();
    const auto reduction = static_cast<Reduction>(ctx->saved_data["reduction"].toInt());
    const bool student = ctx->needs_input_grad(0), teacher = ctx->needs_input_grad(1);
    const auto wanted =
        ops::l1_discrepancy_backward(grad[0], saved[0], saved[1], name_of(reduction), student, teacher);
    return {
        student ? wanted.front() : at::Tensor(), teacher ? wanted.back() : at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

at::Tensor l1_discrepancy(
    const at::Tensor& student, const at::Tensor& teacher, std::string_view reduction,
    std::optional<at::ScalarType> dtype) {
  at::Tensor loss;
  {
    at::AutoDispatchBelowADInplaceOrView guard;
    loss = ops::l1_discrepancy(student, teacher, reduction, dtype);
  }
  if (!at::GradMode::is_enabled() || !(needs_node(student) || needs_node(teacher))) return loss;
  return L1Discrepancy::apply(student, teacher, &loss, check_reduction(name, reduction));
}

std::vector<at::Tensor> l1_discrepancy_backward(
    const at::Tensor& grad, const at::Tensor& student, const at::Tensor& teacher, std::string_view reduction,
    bool student_grad, bool teacher_grad) {
  std::vector<at::Tensor> grads;
  {
    at::AutoDispatchBelowADInplaceOrView guard;
    grads = ops::l1_discrepancy_backward(grad, student, teacher, reduction, student_grad, teacher_grad);
  }
  return once_differentiable(name, {grad, student, teacher}, std::move(grads));
}

TORCH_LIBRARY_IMPL(dfad_fast, Autograd, m) {
  m.impl("l1_discrepancy", l1_discrepancy);
  m.impl("l1_discrepancy_backward", l1_discrepancy_backward);
}

}  // namespace
}  // namespace dfad::autograd
