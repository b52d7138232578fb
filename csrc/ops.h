#pragma once

// The ops as typed calls through the dispatcher, for kernels that call on to another key. Schemas: library.cpp.

#include <ATen/core/Tensor.h>

#include <array>
#include <optional>
#include <string_view>
#include <tuple>
#include <vector>

namespace dfad::ops {

// Loss, agreement per stage, packed signs.
using HingeResult = std::tuple<at::Tensor, at::Tensor, std::vector<at::Tensor>>;

HingeResult boundary_hinge_loss(
    at::TensorList student, at::TensorList teacher, at::ArrayRef<double> weights, double margin,
    std::string_view reduction, bool agreement, bool save_signs, std::optional<at::ScalarType> dtype);

std::vector<at::Tensor> boundary_hinge_loss_backward(
    const at::Tensor& grad, at::TensorList student, at::TensorList signs, at::ArrayRef<double> weights, double margin,
    std::string_view reduction);

at::Tensor pack_signs(const at::Tensor& teacher);

// Loss, and the signs of the difference where they are to be saved.
using L1Result = std::tuple<at::Tensor, std::vector<at::Tensor>>;

L1Result l1_discrepancy(
    const at::Tensor& student, const at::Tensor& teacher, std::string_view reduction, bool save_signs,
    std::optional<at::ScalarType> dtype);

std::vector<at::Tensor> l1_discrepancy_backward(
    const at::Tensor& grad, const at::Tensor& signs, c10::SymIntArrayRef size, c10::SymIntArrayRef stride,
    std::optional<at::ScalarType> student, std::optional<at::ScalarType> teacher, std::string_view reduction);

// Loss and statistics.
std::tuple<at::Tensor, at::Tensor> kl_discrepancy(
    const at::Tensor& student, const at::Tensor& teacher, double temperature, std::string_view reduction,
    std::optional<at::ScalarType> dtype);

std::vector<at::Tensor> kl_discrepancy_backward(
    const at::Tensor& grad, const at::Tensor& student, const at::Tensor& teacher, const at::Tensor& statistics,
    double temperature, std::string_view reduction, bool student_grad, bool teacher_grad);

at::Tensor channel_statistics(at::TensorList features);

std::vector<at::Tensor> channel_statistics_backward(
    const at::Tensor& grad, at::TensorList features, const at::Tensor& statistics);

std::vector<at::Tensor> mixup(at::TensorList tensors, const at::Tensor& lam, const at::Tensor& perm);

std::vector<at::Tensor> mixup_backward(at::TensorList grads, const at::Tensor& lam, const at::Tensor& perm);

at::Tensor interpolated_l1(
    const at::Tensor& student, const at::Tensor& teacher, const at::Tensor& lam, const at::Tensor& perm,
    std::string_view reduction, std::optional<at::ScalarType> dtype);

std::vector<at::Tensor> interpolated_l1_backward(
    const at::Tensor& grad, const at::Tensor& student, const at::Tensor& teacher, const at::Tensor& lam,
    const at::Tensor& perm, std::string_view reduction, bool student_grad, bool teacher_grad);

// Output and statistics.
std::tuple<at::Tensor, at::Tensor> batch_norm_act(
    const at::Tensor& x, const std::optional<at::Tensor>& residual, const std::optional<at::Tensor>& weight,
    const std::optional<at::Tensor>& bias, const std::optional<at::Tensor>& given, bool constant, double slope,
    double eps);

// Those wanted of the gradients of x, residual, weight and bias.
std::vector<at::Tensor> batch_norm_act_backward(
    const at::Tensor& grad, const at::Tensor& x, const std::optional<at::Tensor>& out,
    const std::optional<at::Tensor>& weight, const std::optional<at::Tensor>& bias, const at::Tensor& statistics,
    bool constant, double slope, double eps, std::array<bool, 4> wanted);

// Output, and the statistics of x and of the output.
std::tuple<at::Tensor, at::Tensor, at::Tensor> generator_block(
    const at::Tensor& x, const std::optional<at::Tensor>& given, const std::optional<at::Tensor>& norm_weight,
    const std::optional<at::Tensor>& norm_bias, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
    int64_t upsample, double slope, double eps);

// Those wanted of the gradients of x, norm_weight, norm_bias, weight and bias.
std::vector<at::Tensor> generator_block_backward(
    const at::Tensor& grad, const at::Tensor& x, const at::Tensor& statistics,
    const std::optional<at::Tensor>& norm_weight, const std::optional<at::Tensor>& norm_bias, const at::Tensor& weight,
    int64_t upsample, double slope, double eps, std::array<bool, 5> wanted);

// Output and its statistics.
std::tuple<at::Tensor, at::Tensor> narrow_conv2d(
    const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
    const std::optional<at::Tensor>& residual, int64_t stride, double slope, bool statistics,
    int64_t tile);

// Those wanted of the gradients of x, weight, bias and residual.
std::vector<at::Tensor> narrow_conv2d_backward(
    const at::Tensor& grad, const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& out,
    int64_t stride, double slope, int64_t tile, std::array<bool, 4> wanted);

at::Tensor winograd_weight(const at::Tensor& weight, int64_t tile, bool adjoint);

at::Tensor winograd_conv2d(
    const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
    const std::optional<at::Tensor>& transformed, const std::optional<at::Tensor>& adjoint, int64_t tile, bool relu);

std::vector<at::Tensor> winograd_conv2d_backward(
    const at::Tensor& grad, const std::optional<at::Tensor>& x, const at::Tensor& weight,
    const std::optional<at::Tensor>& result, const std::optional<at::Tensor>& adjoint, int64_t tile, bool x_grad,
    bool weight_grad, bool bias_grad);

}  // namespace dfad::ops
