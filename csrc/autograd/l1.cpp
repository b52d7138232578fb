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

using OptionalDtype = std::optional<at::ScalarType>;

// Backward needs neither network's answers: two bits per element say which is larger.
class L1Discrepancy : public torch::autograd::Function<L1Discrepancy> {
 public:
  static at::Tensor forward(
      AutogradContext* ctx, const at::Tensor& student, const at::Tensor& teacher, ops::L1Result* result,
      Reduction reduction) {
    ctx->save_for_backward(std::get<1>(*result));
    ctx->saved_data["size"] = student.sym_sizes();
    ctx->saved_data["stride"] = student.sym_strides();
    ctx->saved_data["student"] = student.scalar_type();
    ctx->saved_data["teacher"] = teacher.scalar_type();
    ctx->saved_data["reduction"] = static_cast<int64_t>(reduction);
    return std::move(std::get<0>(*result));
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grad) {
    const auto& saved = ctx->saved_data;
    const bool student = ctx->needs_input_grad(0), teacher = ctx->needs_input_grad(1);
    const auto wanted = once_differentiable(
        name,
        ops::l1_discrepancy_backward(
            grad[0], ctx->get_saved_variables()[0], saved.at("size").toSymIntVector(),
            saved.at("stride").toSymIntVector(),
            student ? OptionalDtype(saved.at("student").toScalarType()) : std::nullopt,
            teacher ? OptionalDtype(saved.at("teacher").toScalarType()) : std::nullopt,
            name_of(static_cast<Reduction>(saved.at("reduction").toInt()))));
    return {
        student ? wanted.front() : at::Tensor(), teacher ? wanted.back() : at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

ops::L1Result l1_discrepancy(
    const at::Tensor& student, const at::Tensor& teacher, std::string_view reduction, bool save_signs,
    OptionalDtype dtype) {
  const bool tracked = at::GradMode::is_enabled() && (needs_node(student) || needs_node(teacher));
  ops::L1Result result;
  {
    at::AutoDispatchBelowADInplaceOrView guard;
    result = ops::l1_discrepancy(student, teacher, reduction, save_signs || tracked, dtype);
  }
  if (!tracked) return result;
  std::get<0>(result) = L1Discrepancy::apply(student, teacher, &result, check_reduction(name, reduction));
  if (!save_signs) std::get<1>(result).clear();
  return result;
}

std::vector<at::Tensor> l1_discrepancy_backward(
    const at::Tensor& grad, const at::Tensor& signs, c10::SymIntArrayRef size, c10::SymIntArrayRef stride,
    OptionalDtype student, OptionalDtype teacher, std::string_view reduction) {
  std::vector<at::Tensor> grads;
  {
    at::AutoDispatchBelowADInplaceOrView guard;
    grads = ops::l1_discrepancy_backward(grad, signs, size, stride, student, teacher, reduction);
  }
  return once_differentiable(name, {grad}, std::move(grads));
}

TORCH_LIBRARY_IMPL(dfad_fast, Autograd, m) {
  m.impl("l1_discrepancy", l1_discrepancy);
  m.impl("l1_discrepancy_backward", l1_discrepancy_backward);
}

}  // namespace
}  // namespace dfad::autograd
