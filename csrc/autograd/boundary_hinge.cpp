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

constexpr const char* name = "boundary_hinge_loss";

// What backward needs beside the students that require a gradient. The teachers are detached, so that the graph they
// came from is not kept alive for their signs.
struct Saved {
  variable_list teachers;
  std::vector<double> weights;
  double margin;
  Reduction reduction;
};

// The teachers are no inputs of the node, since they get no gradient.
class BoundaryHinge : public torch::autograd::Function<BoundaryHinge> {
 public:
  static at::Tensor forward(AutogradContext* ctx, at::TensorList students, const Saved* saved, at::Tensor* loss) {
    variable_list tensors = students.vec();
    tensors.insert(tensors.end(), saved->teachers.begin(), saved->teachers.end());
    ctx->save_for_backward(std::move(tensors));
    ctx->saved_data["weights"] = saved->weights;
    ctx->saved_data["margin"] = saved->margin;
    ctx->saved_data["reduction"] = static_cast<int64_t>(saved->reduction);
    return std::move(*loss);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grad) {
    const auto tensors = ctx->get_saved_variables();
    const size_t stages = tensors.size() / 2;
    const auto weights = ctx->saved_data["weights"].toDoubleVector();
    const auto reduction = static_cast<Reduction>(ctx->saved_data["reduction"].toInt());
    variable_list grads = ops::boundary_hinge_loss_backward(
        grad[0], at::TensorList(tensors).slice(0, stages), at::TensorList(tensors).slice(stages), weights,
        ctx->saved_data["margin"].toDouble(), name_of(reduction));
    grads.resize(stages + 2);
    return grads;
  }
};

at::Tensor boundary_hinge_loss(
    const at::Tensor& student, const at::Tensor& teacher, double margin, std::string_view reduction,
    std::optional<at::ScalarType> dtype) {
  at::Tensor loss;
  {
    at::AutoDispatchBelowADInplaceOrView guard;
    loss = ops::boundary_hinge_loss(student, teacher, margin, reduction, dtype);
  }
  if (!at::GradMode::is_enabled() || !needs_node(student)) return loss;
  const Saved saved = {{savable(teacher.detach())}, {1.0}, margin, check_reduction(name, reduction)};
  return BoundaryHinge::apply(at::TensorList(student), &saved, &loss);
}

at::Tensor boundary_hinge_loss_stages(
    at::TensorList student, at::TensorList teacher, at::ArrayRef<double> weights, double margin,
    std::string_view reduction, std::optional<at::ScalarType> dtype) {
  at::Tensor loss;
  {
    at::AutoDispatchBelowADInplaceOrView guard;
    loss = ops::boundary_hinge_loss_stages(student, teacher, weights, margin, reduction, dtype);
  }
  if (!at::GradMode::is_enabled()) return loss;
  variable_list students;
  Saved saved = {{}, {}, margin, check_reduction(name, reduction)};
  for (size_t k = 0; k < student.size(); ++k) {
    if (!needs_node(student[k])) continue;
    students.push_back(student[k]);
    saved.teachers.push_back(savable(teacher[k].detach()));
    saved.weights.push_back(weights[k]);
  }
  if (students.empty()) return loss;
  return BoundaryHinge::apply(at::TensorList(students), &saved, &loss);
}

std::vector<at::Tensor> boundary_hinge_loss_backward(
    const at::Tensor& grad, at::TensorList student, at::TensorList teacher, at::ArrayRef<double> weights,
    double margin, std::string_view reduction) {
  std::vector<at::Tensor> grads;
  {
    at::AutoDispatchBelowADInplaceOrView guard;
    grads = ops::boundary_hinge_loss_backward(grad, student, teacher, weights, margin, reduction);
  }
  if (!at::GradMode::is_enabled()) return grads;
  variable_list inputs = student.vec();
  inputs.push_back(grad);
  return once_differentiable(name, inputs, std::move(grads));
}

TORCH_LIBRARY_IMPL(dfad_fast, Autograd, m) {
  m.impl("boundary_hinge_loss", boundary_hinge_loss);
  m.impl("boundary_hinge_loss_stages", boundary_hinge_loss_stages);
  m.impl("boundary_hinge_loss_backward", boundary_hinge_loss_backward);
}

}  // namespace
}  // namespace dfad::autograd
