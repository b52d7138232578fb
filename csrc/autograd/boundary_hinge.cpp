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

// What backward needs beside the students that require a gradient: of each teacher its signs alone.
struct Saved {
  variable_list signs;
  std::vector<double> weights;
  double margin;
  Reduction reduction;
};

// The teachers are no inputs of the node, since they get no gradient.
class BoundaryHinge : public torch::autograd::Function<BoundaryHinge> {
 public:
  static at::Tensor forward(AutogradContext* ctx, at::TensorList students, const Saved* saved, at::Tensor* loss) {
    variable_list tensors = students.vec();
    tensors.insert(tensors.end(), saved->signs.begin(), saved->signs.end());
    ctx->save_for_backward(std::move(tensors));
    ctx->saved_data["weights"] = saved->weights;
    ctx->saved_data["margin"] = saved->margin;
    ctx->saved_data["reduction"] = static_cast<int64_t>(saved->reduction);
    return std::move(*loss);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grad) {
    const auto tensors = ctx->get_saved_variables();
    const auto all_weights = ctx->saved_data["weights"].toDoubleVector();
    const auto reduction = static_cast<Reduction>(ctx->saved_data["reduction"].toInt());
    const size_t stages = tensors.size() / 2;
    variable_list students, signs;
    std::vector<double> weights;
    for (size_t k = 0; k < stages; ++k) {
      if (!ctx->needs_input_grad(k)) continue;
      students.push_back(tensors[k]);
      signs.push_back(tensors[stages + k]);
      weights.push_back(all_weights[k]);
    }
    const auto wanted = ops::boundary_hinge_loss_backward(
        grad[0], students, signs, weights, ctx->saved_data["margin"].toDouble(), name_of(reduction));
    variable_list grads(stages + 2);
    for (size_t k = 0, next = 0; k < stages; ++k) {
      if (ctx->needs_input_grad(k)) grads[k] = wanted[next++];
    }
    return grads;
  }
};

ops::HingeResult boundary_hinge_loss(
    at::TensorList student, at::TensorList teacher, at::ArrayRef<double> weights, double margin,
    std::string_view reduction, bool agreement, bool save_signs, std::optional<at::ScalarType> dtype) {
  const bool tracked = at::GradMode::is_enabled() && std::any_of(student.begin(), student.end(), needs_node);
  ops::HingeResult result;
  {
    at::AutoDispatchBelowADInplaceOrView guard;
    result = ops::boundary_hinge_loss(
        student, teacher, weights, margin, reduction, agreement, save_signs || tracked, dtype);
  }
  if (!tracked) return result;
  auto& [loss, share, signs] = result;
  variable_list students;
  Saved saved = {{}, {}, margin, check_reduction(name, reduction)};
  for (size_t k = 0, next = 0; k < student.size(); ++k) {
    const bool packed = teacher[k].scalar_type() == at::kByte;
    const at::Tensor& bits = packed ? teacher[k] : signs[next++];
    if (!needs_node(student[k])) continue;
    students.push_back(student[k]);
    saved.signs.push_back(savable(bits));
    saved.weights.push_back(weights[k]);
  }
  loss = BoundaryHinge::apply(at::TensorList(students), &saved, &loss);
  if (!save_signs) signs.clear();
  return result;
}

std::vector<at::Tensor> boundary_hinge_loss_backward(
    const at::Tensor& grad, at::TensorList student, at::TensorList signs, at::ArrayRef<double> weights, double margin,
    std::string_view reduction) {
  std::vector<at::Tensor> grads;
  {
    at::AutoDispatchBelowADInplaceOrView guard;
    grads = ops::boundary_hinge_loss_backward(grad, student, signs, weights, margin, reduction);
  }
  if (!at::GradMode::is_enabled()) return grads;
  variable_list inputs = student.vec();
  inputs.push_back(grad);
  return once_differentiable(name, inputs, std::move(grads));
}

// Its result, integers, gets no gradient.
at::Tensor pack_signs(const at::Tensor& teacher) {
  at::AutoDispatchBelowADInplaceOrView guard;
  return ops::pack_signs(teacher);
}

TORCH_LIBRARY_IMPL(dfad_fast, Autograd, m) {
  m.impl("boundary_hinge_loss", boundary_hinge_loss);
  m.impl("boundary_hinge_loss_backward", boundary_hinge_loss_backward);
  m.impl("pack_signs", pack_signs);
}

}  // namespace
}  // namespace dfad::autograd
