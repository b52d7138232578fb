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

constexpr const char* name = "kl_discrepancy";

class KLDiscrepancy : public torch::autograd::Function<KLDiscrepancy> {
 public:
  static at::Tensor forward(
      AutogradContext* ctx, const at::Tensor& student, const at::Tensor& teacher, const at::Tensor* statistics,
      at::Tensor* loss, double temperature, Reduction reduction) {
    ctx->save_for_backward({savable(student), savable(teacher), *statistics});
    ctx->saved_data["temperature"] = temperature;
    ctx->saved_data["reduction"] = static_cast<int64_t>(reduction);
    return std::move(*loss);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grad) {
    const auto saved = ctx->get_saved_variables();
    const auto reduction = static_cast<Reduction>(ctx->saved_data["reduction"].toInt());
    const bool student = ctx->needs_input_grad(0), teacher = ctx->needs_input_grad(1);
    const auto wanted = ops::kl_discrepancy_backward(
        grad[0], saved[0], saved[1], saved[2], ctx->saved_data["temperature"].toDouble(), name_of(reduction), student,
        teacher);
    variable_list grads(6);
    if (student) grads[0] = wanted.front();
    if (teacher) grads[1] = wanted.back();
    return grads;
  }
};

std::tuple<at::Tensor, at::Tensor> kl_discrepancy(
    const at::Tensor& student, const at::Tensor& teacher, double temperature, std::string_view reduction,
    std::optional<at::ScalarType> dtype) {
  std::tuple<at::Tensor, at::Tensor> result;
  {
    at::AutoDispatchBelowADInplaceOrView guard;
    result = ops::kl_discrepancy(student, teacher, temperature, reduction, dtype);
  }
  if (!at::GradMode::is_enabled() || !(needs_node(student) || needs_node(teacher))) return result;
  auto& [loss, statistics] = result;
  loss = KLDiscrepancy::apply(student, teacher, &statistics, &loss, temperature, check_reduction(name, reduction));
  return result;
}

std::vector<at::Tensor> kl_discrepancy_backward(
    const at::Tensor& grad, const at::Tensor& student, const at::Tensor& teacher, const at::Tensor& statistics,
    double temperature, std::string_view reduction, bool student_grad, bool teacher_grad) {
  std::vector<at::Tensor> grads;
  {
    at::AutoDispatchBelowADInplaceOrView guard;
    grads = ops::kl_discrepancy_backward(
        grad, student, teacher, statistics, temperature, reduction, student_grad, teacher_grad);
  }
  return once_differentiable(name, {grad, student, teacher}, std::move(grads));
}

TORCH_LIBRARY_IMPL(dfad_fast, Autograd, m) {
  m.impl("kl_discrepancy", kl_discrepancy);
  m.impl("kl_discrepancy_backward", kl_discrepancy_backward);
}

}  // namespace
}  // namespace dfad::autograd
