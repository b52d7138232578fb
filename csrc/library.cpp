// Every op's schema, in one place, and its typed handle. Backward ops return only the gradients that were asked for.

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include "ops.h"

TORCH_LIBRARY(dfad_fast, m) {
  // Exact strides: packed signs follow the memory order of the student that forward saw.
  const std::vector<at::Tag> tags = {at::Tag::pt2_compliant_tag, at::Tag::needs_exact_strides};

  // A teacher is a tensor like its student or packed signs (uint8). Signs are returned for teachers that are not packed.
  m.def(
      "boundary_hinge_loss(Tensor[] student, Tensor[] teacher, float[] weights, float margin, str reduction,"
      " bool agreement=False, bool save_signs=False, ScalarType? dtype=None)"
      " -> (Tensor loss, Tensor agreement, Tensor[] signs)",
      tags);
  m.def(
      "boundary_hinge_loss_backward(Tensor grad, Tensor[] student, Tensor[] signs, float[] weights, float margin,"
      " str reduction) -> Tensor[]",
      tags);
  m.def("pack_signs(Tensor teacher) -> Tensor", tags);

  // Signs of the difference are two planes of bits [2, bytes] in the student's memory order: where the student is at
  // least its teacher, and where it is at most. They are returned, as one tensor or none, where they are to be saved.
  m.def(
      "l1_discrepancy(Tensor student, Tensor teacher, str reduction, bool save_signs=False, ScalarType? dtype=None)"
      " -> (Tensor loss, Tensor[] signs)",
      tags);
  // `student` and `teacher` are dtypes of the gradients that are wanted, `size` and `stride` those of the student.
  m.def(
      "l1_discrepancy_backward(Tensor grad, Tensor signs, SymInt[] size, SymInt[] stride, ScalarType? student,"
      " ScalarType? teacher, str reduction) -> Tensor[]",
      tags);

  // Statistics [5, rows]: maximum and logarithm of the sum of exponentials, of student and teacher, and the divergence.
  m.def(
      "kl_discrepancy(Tensor student, Tensor teacher, float temperature, str reduction, ScalarType? dtype=None)"
      " -> (Tensor loss, Tensor statistics)",
      tags);
  m.def(
      "kl_discrepancy_backward(Tensor grad, Tensor student, Tensor teacher, Tensor statistics, float temperature,"
      " str reduction, bool student_grad, bool teacher_grad) -> Tensor[]",
      tags);

  // Mean and biased variance of each channel of tensors [B, C, ...], [2, channels of all].
  m.def("channel_statistics(Tensor[] features) -> Tensor", tags);
  m.def("channel_statistics_backward(Tensor grad, Tensor[] features, Tensor statistics) -> Tensor[]", tags);

  m.def("mixup(Tensor[] tensors, Tensor lam, Tensor perm) -> Tensor[]", tags);
  m.def("mixup_backward(Tensor[] grads, Tensor lam, Tensor perm) -> Tensor[]", tags);

  m.def(
      "interpolated_l1(Tensor student, Tensor teacher, Tensor lam, Tensor perm, str reduction,"
      " ScalarType? dtype=None) -> Tensor",
      tags);
  m.def(
      "interpolated_l1_backward(Tensor grad, Tensor student, Tensor teacher, Tensor lam, Tensor perm, str reduction,"
      " bool student_grad, bool teacher_grad) -> Tensor[]",
      tags);

  // Batch norm, residual and activation. Statistics are [2, channels], mean and biased variance: x's own, or `given` in
  // their place. `constant`: they are no function of x, and no gradient goes through them.
  m.def(
      "batch_norm_act(Tensor x, Tensor? residual, Tensor? weight, Tensor? bias, Tensor? given, bool constant,"
      " float slope, float eps) -> (Tensor out, Tensor statistics)",
      tags);
  // Gradients of x, residual, weight, bias. `out` is given where there was a residual and an activation.
  m.def(
      "batch_norm_act_backward(Tensor grad, Tensor x, Tensor? out, Tensor? weight, Tensor? bias, Tensor statistics,"
      " bool constant, float slope, float eps, bool[4] wanted) -> Tensor[]",
      tags);

  // Batch norm by the batch's statistics, LeakyReLU, nearest upsampling, 3x3 convolution. Statistics are [2, channels],
  // mean and biased variance; those of x may be given, where whoever made x returned them. CPU and float32 only;
  // elsewhere the convolutions of torch serve.
  m.def(
      "generator_block(Tensor x, Tensor? given, Tensor? norm_weight, Tensor? norm_bias, Tensor weight, Tensor? bias,"
      " int upsample, float slope, float eps) -> (Tensor out, Tensor statistics, Tensor out_statistics)",
      tags);
  // Gradients of x, norm_weight, norm_bias, weight, bias.
  m.def(
      "generator_block_backward(Tensor grad, Tensor x, Tensor statistics, Tensor? norm_weight, Tensor? norm_bias,"
      " Tensor weight, int upsample, float slope, float eps, bool[5] wanted) -> Tensor[]",
      tags);

  // a(conv(x, weight) + bias + residual) for 3x3 and 1x1 filters with padding kernel / 2, where a(v) = v for v > 0 else
  // slope * v. Statistics [2, channels] of the output, mean and biased variance, or an empty tensor. With tile 4 by
  // F(4x4, 3x3), with 0 directly. CPU and float32.
  m.def(
      "narrow_conv2d(Tensor x, Tensor weight, Tensor? bias, Tensor? residual, int stride, float slope, bool statistics,"
      " int tile=0) -> (Tensor out, Tensor statistics)",
      tags);
  // Gradients of x, weight, bias, residual. `out` is given where there is an activation.
  m.def(
      "narrow_conv2d_backward(Tensor grad, Tensor x, Tensor weight, Tensor? out, int stride, float slope,"
      " int tile, bool[4] wanted) -> Tensor[]",
      tags);

  // 3x3 filters as F(tile x tile, 3x3) multiplies with them, for the convolution or for its adjoint, by which the
  // gradient goes back to x. Whoever convolves several times with the same weight can pass them; who does not, none.
  m.def("winograd_weight(Tensor weight, int tile, bool adjoint=False) -> Tensor", tags);
  m.def(
      "winograd_conv2d(Tensor x, Tensor weight, Tensor? bias=None, Tensor? transformed=None, Tensor? adjoint=None,"
      " int tile=4, bool relu=False) -> Tensor",
      tags);
  // `result` is given where it went through a ReLU, x where the weight's gradient is asked for.
  m.def(
      "winograd_conv2d_backward(Tensor grad, Tensor? x, Tensor weight, Tensor? result, Tensor? adjoint, int tile,"
      " bool x_grad, bool weight_grad, bool bias_grad) -> Tensor[]",
      tags);
}

namespace dfad::ops {
namespace {

template <class Signature>
auto handle(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

}  // namespace

HingeResult boundary_hinge_loss(
    at::TensorList student, at::TensorList teacher, at::ArrayRef<double> weights, double margin,
    std::string_view reduction, bool agreement, bool save_signs, std::optional<at::ScalarType> dtype) {
  static const auto op = handle<decltype(boundary_hinge_loss)>("dfad_fast::boundary_hinge_loss");
  return op.call(student, teacher, weights, margin, reduction, agreement, save_signs, dtype);
}

std::vector<at::Tensor> boundary_hinge_loss_backward(
    const at::Tensor& grad, at::TensorList student, at::TensorList signs, at::ArrayRef<double> weights, double margin,
    std::string_view reduction) {
  static const auto op = handle<decltype(boundary_hinge_loss_backward)>("dfad_fast::boundary_hinge_loss_backward");
  return op.call(grad, student, signs, weights, margin, reduction);
}

at::Tensor pack_signs(const at::Tensor& teacher) {
  static const auto op = handle<decltype(pack_signs)>("dfad_fast::pack_signs");
  return op.call(teacher);
}

L1Result l1_discrepancy(
    const at::Tensor& student, const at::Tensor& teacher, std::string_view reduction, bool save_signs,
    std::optional<at::ScalarType> dtype) {
  static const auto op = handle<decltype(l1_discrepancy)>("dfad_fast::l1_discrepancy");
  return op.call(student, teacher, reduction, save_signs, dtype);
}

std::vector<at::Tensor> l1_discrepancy_backward(
    const at::Tensor& grad, const at::Tensor& signs, c10::SymIntArrayRef size, c10::SymIntArrayRef stride,
    std::optional<at::ScalarType> student, std::optional<at::ScalarType> teacher, std::string_view reduction) {
  static const auto op = handle<decltype(l1_discrepancy_backward)>("dfad_fast::l1_discrepancy_backward");
  return op.call(grad, signs, size, stride, student, teacher, reduction);
}

std::tuple<at::Tensor, at::Tensor> kl_discrepancy(
    const at::Tensor& student, const at::Tensor& teacher, double temperature, std::string_view reduction,
    std::optional<at::ScalarType> dtype) {
  static const auto op = handle<decltype(kl_discrepancy)>("dfad_fast::kl_discrepancy");
  return op.call(student, teacher, temperature, reduction, dtype);
}

std::vector<at::Tensor> kl_discrepancy_backward(
    const at::Tensor& grad, const at::Tensor& student, const at::Tensor& teacher, const at::Tensor& statistics,
    double temperature, std::string_view reduction, bool student_grad, bool teacher_grad) {
  static const auto op = handle<decltype(kl_discrepancy_backward)>("dfad_fast::kl_discrepancy_backward");
  return op.call(grad, student, teacher, statistics, temperature, reduction, student_grad, teacher_grad);
}

at::Tensor channel_statistics(at::TensorList features) {
  static const auto op = handle<decltype(channel_statistics)>("dfad_fast::channel_statistics");
  return op.call(features);
}

std::vector<at::Tensor> channel_statistics_backward(
    const at::Tensor& grad, at::TensorList features, const at::Tensor& statistics) {
  static const auto op = handle<decltype(channel_statistics_backward)>("dfad_fast::channel_statistics_backward");
  return op.call(grad, features, statistics);
}

std::vector<at::Tensor> mixup(at::TensorList tensors, const at::Tensor& lam, const at::Tensor& perm) {
  static const auto op = handle<decltype(mixup)>("dfad_fast::mixup");
  return op.call(tensors, lam, perm);
}

std::vector<at::Tensor> mixup_backward(at::TensorList grads, const at::Tensor& lam, const at::Tensor& perm) {
  static const auto op = handle<decltype(mixup_backward)>("dfad_fast::mixup_backward");
  return op.call(grads, lam, perm);
}

at::Tensor interpolated_l1(
    const at::Tensor& student, const at::Tensor& teacher, const at::Tensor& lam, const at::Tensor& perm,
    std::string_view reduction, std::optional<at::ScalarType> dtype) {
  static const auto op = handle<decltype(interpolated_l1)>("dfad_fast::interpolated_l1");
  return op.call(student, teacher, lam, perm, reduction, dtype);
}

std::vector<at::Tensor> interpolated_l1_backward(
    const at::Tensor& grad, const at::Tensor& student, const at::Tensor& teacher, const at::Tensor& lam,
    const at::Tensor& perm, std::string_view reduction, bool student_grad, bool teacher_grad) {
  static const auto op = handle<decltype(interpolated_l1_backward)>("dfad_fast::interpolated_l1_backward");
  return op.call(grad, student, teacher, lam, perm, reduction, student_grad, teacher_grad);
}

std::tuple<at::Tensor, at::Tensor> batch_norm_act(
    const at::Tensor& x, const std::optional<at::Tensor>& residual, const std::optional<at::Tensor>& weight,
    const std::optional<at::Tensor>& bias, const std::optional<at::Tensor>& given, bool constant, double slope,
    double eps) {
  static const auto op = handle<decltype(batch_norm_act)>("dfad_fast::batch_norm_act");
  return op.call(x, residual, weight, bias, given, constant, slope, eps);
}

std::vector<at::Tensor> batch_norm_act_backward(
    const at::Tensor& grad, const at::Tensor& x, const std::optional<at::Tensor>& out,
    const std::optional<at::Tensor>& weight, const std::optional<at::Tensor>& bias, const at::Tensor& statistics,
    bool constant, double slope, double eps, std::array<bool, 4> wanted) {
  static const auto op = handle<decltype(batch_norm_act_backward)>("dfad_fast::batch_norm_act_backward");
  return op.call(grad, x, out, weight, bias, statistics, constant, slope, eps, wanted);
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> generator_block(
    const at::Tensor& x, const std::optional<at::Tensor>& given, const std::optional<at::Tensor>& norm_weight,
    const std::optional<at::Tensor>& norm_bias, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
    int64_t upsample, double slope, double eps) {
  static const auto op = handle<decltype(generator_block)>("dfad_fast::generator_block");
  return op.call(x, given, norm_weight, norm_bias, weight, bias, upsample, slope, eps);
}

std::vector<at::Tensor> generator_block_backward(
    const at::Tensor& grad, const at::Tensor& x, const at::Tensor& statistics,
    const std::optional<at::Tensor>& norm_weight, const std::optional<at::Tensor>& norm_bias, const at::Tensor& weight,
    int64_t upsample, double slope, double eps, std::array<bool, 5> wanted) {
  static const auto op = handle<decltype(generator_block_backward)>("dfad_fast::generator_block_backward");
  return op.call(grad, x, statistics, norm_weight, norm_bias, weight, upsample, slope, eps, wanted);
}

std::tuple<at::Tensor, at::Tensor> narrow_conv2d(
    const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
    const std::optional<at::Tensor>& residual, int64_t stride, double slope, bool statistics,
    int64_t tile) {
  static const auto op = handle<decltype(narrow_conv2d)>("dfad_fast::narrow_conv2d");
  return op.call(x, weight, bias, residual, stride, slope, statistics, tile);
}

std::vector<at::Tensor> narrow_conv2d_backward(
    const at::Tensor& grad, const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& out,
    int64_t stride, double slope, int64_t tile, std::array<bool, 4> wanted) {
  static const auto op = handle<decltype(narrow_conv2d_backward)>("dfad_fast::narrow_conv2d_backward");
  return op.call(grad, x, weight, out, stride, slope, tile, wanted);
}

at::Tensor winograd_weight(const at::Tensor& weight, int64_t tile, bool adjoint) {
  static const auto op = handle<decltype(winograd_weight)>("dfad_fast::winograd_weight");
  return op.call(weight, tile, adjoint);
}

at::Tensor winograd_conv2d(
    const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
    const std::optional<at::Tensor>& transformed, const std::optional<at::Tensor>& adjoint, int64_t tile, bool relu) {
  static const auto op = handle<decltype(winograd_conv2d)>("dfad_fast::winograd_conv2d");
  return op.call(x, weight, bias, transformed, adjoint, tile, relu);
}

std::vector<at::Tensor> winograd_conv2d_backward(
    const at::Tensor& grad, const std::optional<at::Tensor>& x, const at::Tensor& weight,
    const std::optional<at::Tensor>& result, const std::optional<at::Tensor>& adjoint, int64_t tile, bool x_grad,
    bool weight_grad, bool bias_grad) {
  static const auto op = handle<decltype(winograd_conv2d_backward)>("dfad_fast::winograd_conv2d_backward");
  return op.call(grad, x, weight, result, adjoint, tile, x_grad, weight_grad, bias_grad);
}

}  // namespace dfad::ops
