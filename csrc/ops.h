#pragma once

// The ops as typed calls through the dispatcher, for kernels that call on to another key. Schemas: library.cpp.

#include <ATen/core/Tensor.h>

#include <optional>
#include <string_view>
#include <vector>

namespace dfad::ops {

at::Tensor boundary_hinge_loss(
    const at::Tensor& student, const at::Tensor& teacher, double margin, std::string_view reduction,
    std::optional<at::ScalarType> dtype);

at::Tensor boundary_hinge_loss_stages(
    at::TensorList student, at::TensorList teacher, at::ArrayRef<double> weights, double margin,
    std::string_view reduction, std::optional<at::ScalarType> dtype);

std::vector<at::Tensor> boundary_hinge_loss_backward(
    const at::Tensor& grad, at::TensorList student, at::TensorList teacher, at::ArrayRef<double> weights,
    double margin, std::string_view reduction);

at::Tensor l1_discrepancy(
    const at::Tensor& student, const at::Tensor& teacher, std::string_view reduction,
    std::optional<at::ScalarType> dtype);

std::vector<at::Tensor> l1_discrepancy_backward(
    const at::Tensor& grad, const at::Tensor& student, const at::Tensor& teacher, std::string_view reduction,
    bool student_grad, bool teacher_grad);

std::vector<at::Tensor> mixup(at::TensorList tensors, const at::Tensor& lam, const at::Tensor& perm);

std::vector<at::Tensor> mixup_backward(at::TensorList grads, const at::Tensor& lam, const at::Tensor& perm);

}  // namespace dfad::ops
