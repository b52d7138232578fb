#pragma once

// The ops' checks; dfad_fast/ops/_checks.py repeats their texts word for word.

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "reduction.h"

namespace dfad {

Reduction check_reduction(const char* op, std::string_view reduction);

void check_margin(const char* op, double margin);

// `stage` as for check_pair.
void check_floating(const char* op, const char* name, const std::string& stage, const at::Tensor& x);

// Dtypes, shapes and devices of one student/teacher pair; `stage` is its index as text, such as "[1]".
void check_pair(const char* op, const at::Tensor& student, const at::Tensor& teacher, const std::string& stage = "");

// Packed signs for the backward op or in the teacher's place: bytes in one piece, one bit per element of the student.
void check_packed(
    const char* op, const at::Tensor& student, const at::Tensor& signs, const std::string& stage = "");

// Signs of a difference for the backward op: two planes of so many bytes in one piece.
void check_difference_signs(const char* op, const at::Tensor& signs, int64_t bytes);

// Lengths, then each pair; a teacher is a tensor like its student, or packed signs (uint8). `none` has one stage.
void check_stages(
    const char* op, at::TensorList student, at::TensorList teacher, at::ArrayRef<double> weights,
    Reduction reduction);

void check_temperature(const char* op, double temperature);

// Logits have a class dimension.
void check_logits(const char* op, const at::Tensor& student);

// At least one tensor [B, C, ...], all on one device.
void check_features(const char* op, at::TensorList features);

// What channel_statistics gave for its backward op, and the gradient of that.
void check_channel_grad(
    const char* op, const at::Tensor& grad, const at::Tensor& statistics, at::TensorList features);

// The loss's gradient, as it comes to a backward op on a device: of this shape for `none`, else one number.
void check_grad(
    const char* op, const at::Tensor& grad, at::Device device, at::IntArrayRef shape, Reduction reduction);

// What kl_discrepancy gave for its backward op: five numbers per row, of the compute type.
void check_statistics(
    const char* op, const at::Tensor& statistics, at::Device device, int64_t rows, at::ScalarType dtype);

// Everything about a mixture but the values of `perm`.
void check_mixing(const char* op, at::TensorList tensors, const at::Tensor& lam, const at::Tensor& perm);

// What batch_norm_act is given. `given` statistics are as the op returns them; without them there must be at least two
// values per channel.
void check_batch_norm(
    const char* op, const at::Tensor& x, const std::optional<at::Tensor>& residual,
    const std::optional<at::Tensor>& weight, const std::optional<at::Tensor>& bias,
    const std::optional<at::Tensor>& given, bool constant, double slope, double eps);

// What its backward op is given beside: the gradient, and the output where the activation's side is read from it.
void check_batch_norm_backward(
    const char* op, const at::Tensor& grad, const at::Tensor& x, const std::optional<at::Tensor>& out);

// 3x3 filters for F(tile x tile, 3x3).
void check_filters(const char* op, const at::Tensor& weight, int64_t tile);

// Images and bias of a convolution, for filters that were checked.
void check_convolved(
    const char* op, const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias);

// What winograd_weight gave for these filters.
void check_transformed(const char* op, const at::Tensor& transformed, int64_t components, int64_t size);

// What the backward op of a convolution gets: `result` is that of its ReLU; x is there where the weight has a gradient.
void check_convolution_grad(
    const char* op, const at::Tensor& grad, const std::optional<at::Tensor>& x, const at::Tensor& weight,
    const std::optional<at::Tensor>& result, bool weight_grad);

// The numbers of narrow_conv2d.
struct NarrowOptions {
  int64_t stride;
  double slope;
  bool statistics;
  int64_t tile;
};

// All that narrow_conv2d takes.
void check_narrow(
    const char* op, const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
    const std::optional<at::Tensor>& residual, const NarrowOptions& options);

// All that its backward op takes; `out` is there where there is an activation.
void check_narrow_grad(
    const char* op, const at::Tensor& grad, const at::Tensor& x, const at::Tensor& weight,
    const std::optional<at::Tensor>& out, const NarrowOptions& options);

// The inverse of a permutation that lies on the CPU; throws where it is none.
std::vector<int64_t> checked_inverse(const char* op, const at::Tensor& perm);

}  // namespace dfad
