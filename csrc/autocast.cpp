// Under autocast the losses give float32, as F.l1_loss does, but compute it from the halves: nothing is cast ahead.
// Mixtures keep their tensors' dtypes and so need no kernel here.

#include <torch/library.h>

#include "dtypes.h"
#include "ops.h"

namespace dfad::autocast {
namespace {

using Guard = c10::impl::ExcludeDispatchKeyGuard;

ops::HingeResult boundary_hinge_loss(
    at::TensorList student, at::TensorList teacher, at::ArrayRef<double> weights, double margin,
    std::string_view reduction, bool agreement, bool save_signs, std::optional<at::ScalarType> dtype) {
  Guard guard(c10::autocast_dispatch_keyset);
  return ops::boundary_hinge_loss(
      student, teacher, weights, margin, reduction, agreement, save_signs,
      dtype.value_or(autocast_dtype(student, teacher)));
}

ops::L1Result l1_discrepancy(
    const at::Tensor& student, const at::Tensor& teacher, std::string_view reduction, bool save_signs,
    std::optional<at::ScalarType> dtype) {
  Guard guard(c10::autocast_dispatch_keyset);
  return ops::l1_discrepancy(
      student, teacher, reduction, save_signs, dtype.value_or(autocast_dtype(student, teacher)));
}

std::tuple<at::Tensor, at::Tensor> kl_discrepancy(
    const at::Tensor& student, const at::Tensor& teacher, double temperature, std::string_view reduction,
    std::optional<at::ScalarType> dtype) {
  Guard guard(c10::autocast_dispatch_keyset);
  return ops::kl_discrepancy(
      student, teacher, temperature, reduction, dtype.value_or(autocast_dtype(student, teacher)));
}

at::Tensor interpolated_l1(
    const at::Tensor& student, const at::Tensor& teacher, const at::Tensor& lam, const at::Tensor& perm,
    std::string_view reduction, std::optional<at::ScalarType> dtype) {
  Guard guard(c10::autocast_dispatch_keyset);
  return ops::interpolated_l1(
      student, teacher, lam, perm, reduction, dtype.value_or(autocast_dtype(student, teacher)));
}

void register_all(torch::Library& m) {
  m.impl("boundary_hinge_loss", boundary_hinge_loss);
  m.impl("l1_discrepancy", l1_discrepancy);
  m.impl("kl_discrepancy", kl_discrepancy);
  m.impl("interpolated_l1", interpolated_l1);
}

TORCH_LIBRARY_IMPL(dfad_fast, AutocastCPU, m) { register_all(m); }
TORCH_LIBRARY_IMPL(dfad_fast, AutocastCUDA, m) { register_all(m); }

}  // namespace
}  // namespace dfad::autocast
