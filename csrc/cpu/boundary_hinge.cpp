#include <torch/library.h>

#include "../checks.h"
#include "../dtypes.h"
#include "pairwise.h"

namespace dfad::cpu {
namespace {

constexpr const char* name = "boundary_hinge_loss";

struct HingeTerm {
  double margin;

  template <class A>
  BoundaryHinge<A> functor() const {
    return {static_cast<A>(margin)};
  }
};

at::Tensor boundary_hinge_loss(
    const at::Tensor& student, const at::Tensor& teacher, double margin, std::string_view reduction_name,
    std::optional<at::ScalarType> wanted) {
  const Reduction reduction = check_reduction(name, reduction_name);
  check_margin(name, margin);
  check_pair(name, student, teacher);
  const at::ScalarType dtype = result_dtype(student, teacher, wanted);
  if (reduction == Reduction::none) return elementwise_loss(HingeTerm{margin}, student, teacher, dtype);
  return scalar_tensor(reduced_loss(HingeTerm{margin}, student, teacher, {1.0}, reduction), dtype);
}

at::Tensor boundary_hinge_loss_stages(
    at::TensorList student, at::TensorList teacher, at::ArrayRef<double> weights, double margin,
    std::string_view reduction_name, std::optional<at::ScalarType> wanted) {
  const Reduction reduction = check_reduction(name, reduction_name);
  TORCH_CHECK_VALUE(
      reduction != Reduction::none, name, ": stages are summed and need reduction 'mean' or 'sum', got 'none'");
  check_stages(name, student, teacher, weights);
  check_margin(name, margin);
  return scalar_tensor(
      reduced_loss(HingeTerm{margin}, student, teacher, weights, reduction), result_dtype(student, teacher, wanted));
}

std::vector<at::Tensor> boundary_hinge_loss_backward(
    const at::Tensor& grad, at::TensorList student, at::TensorList teacher, at::ArrayRef<double> weights,
    double margin, std::string_view reduction_name) {
  const Reduction reduction = check_reduction(name, reduction_name);
  if (reduction == Reduction::none) {
    TORCH_CHECK_VALUE(student.size() == 1, name, ": reduction 'none' has one stage, got ", student.size());
  }
  check_stages(name, student, teacher, weights);
  check_grad(name, grad, student[0], reduction);
  return PairGradient<HingeTerm>{HingeTerm{margin}, grad, student, teacher, weights, reduction}();
}

TORCH_LIBRARY_IMPL(dfad_fast, CPU, m) {
  m.impl("boundary_hinge_loss", boundary_hinge_loss);
  m.impl("boundary_hinge_loss_stages", boundary_hinge_loss_stages);
  m.impl("boundary_hinge_loss_backward", boundary_hinge_loss_backward);
}

}  // namespace
}  // namespace dfad::cpu
