#include <torch/library.h>

#include "../checks.h"
#include "../dtypes.h"
#include "pairwise.h"

namespace dfad::cpu {
namespace {

constexpr const char* name = "l1_discrepancy";

struct L1Term {
  template <class A>
  AbsoluteDifference<A> functor() const {
    return {};
  }
};

at::Tensor l1_discrepancy(
    const at::Tensor& student, const at::Tensor& teacher, std::string_view reduction_name,
    std::optional<at::ScalarType> wanted) {
  const Reduction reduction = check_reduction(name, reduction_name);
  check_pair(name, student, teacher);
  const at::ScalarType dtype = result_dtype(student, teacher, wanted);
  if (reduction == Reduction::none) return elementwise_loss(L1Term{}, student, teacher, dtype);
  return scalar_tensor(reduced_loss(L1Term{}, student, teacher, {1.0}, reduction), dtype);
}

std::vector<at::Tensor> l1_discrepancy_backward(
    const at::Tensor& grad, const at::Tensor& student, const at::Tensor& teacher, std::string_view reduction_name,
    bool student_grad, bool teacher_grad) {
  const Reduction reduction = check_reduction(name, reduction_name);
  check_pair(name, student, teacher);
  check_grad(name, grad, student, reduction);
  if (!student_grad && !teacher_grad) return {};
  return PairGradient<L1Term>{
      L1Term{}, grad, student, teacher, {1.0}, reduction, student_grad, teacher_grad}();
}

TORCH_LIBRARY_IMPL(dfad_fast, CPU, m) {
  m.impl("l1_discrepancy", l1_discrepancy);
  m.impl("l1_discrepancy_backward", l1_discrepancy_backward);
}

}  // namespace
}  // namespace dfad::cpu
