// Every op's schema, in one place, and its typed handle. Backward ops return only the gradients that were asked for.

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include "ops.h"

TORCH_LIBRARY(dfad_fast, m) {
  const std::vector<at::Tag> tags = {at::Tag::pt2_compliant_tag};

  m.def(
      "boundary_hinge_loss(Tensor student, Tensor teacher, float margin, str reduction, ScalarType? dtype=None)"
      " -> Tensor",
      tags);
  m.def(
      "boundary_hinge_loss_stages(Tensor[] student, Tensor[] teacher, float[] weights, float margin, str reduction,"
      " ScalarType? dtype=None) -> Tensor",
      tags);
  m.def(
      "boundary_hinge_loss_backward(Tensor grad, Tensor[] student, Tensor[] teacher, float[] weights, float margin,"
      " str reduction) -> Tensor[]",
      tags);

  m.def("l1_discrepancy(Tensor student, Tensor teacher, str reduction, ScalarType? dtype=None) -> Tensor", tags);
  m.def(
      "l1_discrepancy_backward(Tensor grad, Tensor student, Tensor teacher, str reduction, bool student_grad,"
      " bool teacher_grad) -> Tensor[]",
      tags);

  m.def("mixup(Tensor[] tensors, Tensor lam, Tensor perm) -> Tensor[]", tags);
  m.def("mixup_backward(Tensor[] grads, Tensor lam, Tensor perm) -> Tensor[]", tags);
}

namespace dfad::ops {
namespace {

template <class Signature>
auto handle(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

}  // namespace

at::Tensor boundary_hinge_loss(
    const at::Tensor& student, const at::Tensor& teacher, double margin, std::string_view reduction,
    std::optional<at::ScalarType> dtype) {
  static const auto op = handle<decltype(boundary_hinge_loss)>("dfad_fast::boundary_hinge_loss");
  return op.call(student, teacher, margin, reduction, dtype);
}

at::Tensor boundary_hinge_loss_stages(
    at::TensorList student, at::TensorList teacher, at::ArrayRef<double> weights, double margin,
    std::string_view reduction, std::optional<at::ScalarType> dtype) {
  static const auto op = handle<decltype(boundary_hinge_loss_stages)>("dfad_fast::boundary_hinge_loss_stages");
  return op.call(student, teacher, weights, margin, reduction, dtype);
}

std::vector<at::Tensor> boundary_hinge_loss_backward(
    const at::Tensor& grad, at::TensorList student, at::TensorList teacher, at::ArrayRef<double> weights,
    double margin, std::string_view reduction) {
  static const auto op = handle<decltype(boundary_hinge_loss_backward)>("dfad_fast::boundary_hinge_loss_backward");
  return op.call(grad, student, teacher, weights, margin, reduction);
}

at::Tensor l1_discrepancy(
    const at::Tensor& student, const at::Tensor& teacher, std::string_view reduction,
    std::optional<at::ScalarType> dtype) {
  static const auto op = handle<decltype(l1_discrepancy)>("dfad_fast::l1_discrepancy");
  return op.call(student, teacher, reduction, dtype);
}

std::vector<at::Tensor> l1_discrepancy_backward(
    const at::Tensor& grad, const at::Tensor& student, const at::Tensor& teacher, std::string_view reduction,
    bool student_grad, bool teacher_grad) {
  static const auto op = handle<decltype(l1_discrepancy_backward)>("dfad_fast::l1_discrepancy_backward");
  return op.call(grad, student, teacher, reduction, student_grad, teacher_grad);
}

std::vector<at::Tensor> mixup(at::TensorList tensors, const at::Tensor& lam, const at::Tensor& perm) {
  static const auto op = handle<decltype(mixup)>("dfad_fast::mixup");
  return op.call(tensors, lam, perm);
}

std::vector<at::Tensor> mixup_backward(at::TensorList grads, const at::Tensor& lam, const at::Tensor& perm) {
  static const auto op = handle<decltype(mixup_backward)>("dfad_fast::mixup_backward");
  return op.call(grads, lam, perm);
}

}  // namespace dfad::ops
