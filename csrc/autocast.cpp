// Under autocast the losses give float32, as F.l1_loss does, but compute it from the halves: nothing is cast ahead.
// Mixtures keep their tensors' dtypes and so need no kernel here.

#include <torch/library.h>

#include "dtypes.h"
#include "ops.h"

namespace dfad::autocast {
namespace {

using Guard = c10::impl::ExcludeDispatchKeyGuard;

at::Tensor boundary_hinge_loss(
    const at::Tensor& student, const at::Tensor& teacher, double margin, std::string_view reduction,
    std::optional<at::ScalarType> dtype) {
  Guard guard(c10::autocast_dispatch_keyset);
  return ops::boundary_hinge_loss(
      student, teacher, margin, reduction, dtype.value_or(autocast_dtype(student, teacher)));
}

at::Tensor boundary_hinge_loss_stages(
    at::TensorList student, at::TensorList teacher, at::ArrayRef<double> weights, double margin,
    std::string_view reduction, std::optional<at::ScalarType> dtype) {
  Guard guard(c10::autocast_dispatch_keyset);
  return ops::boundary_hinge_loss_stages(
      student, teacher, weights, margin, reduction, dtype.value_or(autocast_dtype(student, teacher)));
}

at::Tensor l1_discrepancy(
    const at::Tensor& student, const at::Tensor& teacher, std::string_view reduction,
    std::optional<at::ScalarType> dtype) {
  Guard guard(c10::autocast_dispatch_keyset);
  return ops::l1_discrepancy(student, teacher, reduction, dtype.value_or(autocast_dtype(student, teacher)));
}

TORCH_LIBRARY_IMPL(dfad_fast, AutocastCPU, m) {
  m.impl("boundary_hinge_loss", boundary_hinge_loss);
  m.impl("boundary_hinge_loss_stages", boundary_hinge_loss_stages);
  m.impl("l1_discrepancy", l1_discrepancy);
}

}  // namespace
}  // namespace dfad::autocast
