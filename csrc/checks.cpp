#include "checks.h"

#include "channels.h"
#include "dtypes.h"

#include <c10/util/Exception.h>

#include <array>
#include <cmath>
#include <string>

namespace dfad {
namespace {

bool is_floating(const at::Tensor& x) {
  const auto dtype = x.scalar_type();
  return dtype == at::kDouble || dtype == at::kFloat || dtype == at::kHalf || dtype == at::kBFloat16;
}

// By value: before torch 2.14 the names are temporaries.
std::string dtype_name(const at::Tensor& x) {
  return std::string(c10::getDtypeNames(x.scalar_type()).first);
}

}  // namespace

void check_floating(const char* op, const char* name, const std::string& stage, const at::Tensor& x) {
  TORCH_CHECK_TYPE(
      is_floating(x), op, ": ", name, stage, " must be float64, float32, float16 or bfloat16, got ", dtype_name(x));
}

Reduction check_reduction(const char* op, std::string_view reduction) {
  if (reduction == "mean") return Reduction::mean;
  if (reduction == "sum") return Reduction::sum;
  TORCH_CHECK_VALUE(
      reduction == "none", op, ": reduction must be 'none', 'mean' or 'sum', got '", reduction, "'");
  return Reduction::none;
}

void check_margin(const char* op, double margin) {
  TORCH_CHECK_VALUE(
      std::isfinite(margin) && margin >= 0, op, ": margin must be finite and not negative, got ", margin);
}

void check_pair(const char* op, const at::Tensor& student, const at::Tensor& teacher, const std::string& stage) {
  check_floating(op, "student", stage, student);
  check_floating(op, "teacher", stage, teacher);
  TORCH_CHECK_VALUE(
      student.sizes() == teacher.sizes(), op, ": student", stage, " and teacher", stage,
      " must have the same shape (nothing is broadcast), got ", student.sizes(), " and ", teacher.sizes());
  TORCH_CHECK_VALUE(
      student.device() == teacher.device(), op, ": student", stage, " and teacher", stage,
      " must be on the same device, got ", student.device(), " and ", teacher.device());
}

void check_packed(const char* op, const at::Tensor& student, const at::Tensor& signs, const std::string& stage) {
  check_floating(op, "student", stage, student);
  const int64_t size = (student.numel() + 7) / 8;
  TORCH_CHECK_VALUE(
      signs.scalar_type() == at::kByte && signs.dim() == 1 && signs.size(0) == size && signs.is_contiguous(), op,
      ": packed signs for student", stage, " of shape ", student.sizes(), " must be ", size,
      " bytes in one piece, got shape ", signs.sizes());
  TORCH_CHECK_VALUE(
      student.device() == signs.device(), op, ": student", stage,
      " and its packed signs must be on the same device, got ", student.device(), " and ", signs.device());
}

void check_difference_signs(const char* op, const at::Tensor& signs, int64_t bytes) {
  TORCH_CHECK_VALUE(
      signs.scalar_type() == at::kByte && signs.dim() == 2 && signs.size(0) == 2 && signs.size(1) == bytes &&
          (bytes == 0 || signs.stride(0) >= bytes) && (bytes <= 1 || signs.stride(1) == 1),
      op, ": signs must be two planes of ", bytes, " bytes (uint8), each in one piece, as the forward op gave them, got ",
      dtype_name(signs), " of shape ", signs.sizes(), " with strides ", signs.strides());
}

void check_stages(
    const char* op, at::TensorList student, at::TensorList teacher, at::ArrayRef<double> weights,
    Reduction reduction) {
  TORCH_CHECK_VALUE(
      student.size() == teacher.size(), op, ": student and teacher must be equally long lists, got ", student.size(),
      " and ", teacher.size(), " tensors");
  TORCH_CHECK_VALUE(!student.empty(), op, ": student and teacher must hold at least one tensor, got empty lists");
  TORCH_CHECK_VALUE(
      weights.size() == student.size(), op, ": weights must hold one number per stage, got ", weights.size(), " for ",
      student.size(), " stages");
  for (size_t i = 0; i < student.size(); ++i) {
    const std::string stage = student.size() > 1 ? c10::str("[", i, "]") : std::string();
    TORCH_CHECK_VALUE(
        student[i].device() == student[0].device(), op, ": all stages must be on the same device, got ",
        student[0].device(), " and ", student[i].device());
    if (teacher[i].scalar_type() == at::kByte) {
      check_packed(op, student[i], teacher[i], stage);
    } else {
      check_pair(op, student[i], teacher[i], stage);
    }
  }
  TORCH_CHECK_VALUE(
      reduction != Reduction::none || student.size() == 1, op,
      ": stages are summed and need reduction 'mean' or 'sum', got 'none'");
}

void check_temperature(const char* op, double temperature) {
  TORCH_CHECK_VALUE(
      std::isfinite(temperature) && temperature > 0, op, ": temperature must be finite and positive, got ",
      temperature);
}

void check_logits(const char* op, const at::Tensor& student) {
  TORCH_CHECK_VALUE(
      student.dim() >= 2, op, ": student and teacher must have shape [B, C, ...], got ", student.sizes());
}

void check_grad(
    const char* op, const at::Tensor& grad, at::Device device, at::IntArrayRef shape, Reduction reduction) {
  check_floating(op, "grad", "", grad);
  TORCH_CHECK_VALUE(grad.device() == device, op, ": grad must be on ", device, ", got ", grad.device());
  TORCH_CHECK_VALUE(
      reduction == Reduction::none ? grad.sizes() == shape : grad.numel() == 1, op,
      ": grad must have the loss's shape, got ", grad.sizes());
}

void check_statistics(
    const char* op, const at::Tensor& statistics, at::Device device, int64_t rows, at::ScalarType dtype) {
  TORCH_CHECK_VALUE(
      statistics.device() == device, op, ": statistics must be on ", device, ", got ", statistics.device());
  const std::array<int64_t, 2> shape = {5, rows};
  TORCH_CHECK_VALUE(
      statistics.sizes() == at::IntArrayRef(shape) && statistics.scalar_type() == dtype && statistics.is_contiguous(),
      op, ": statistics must be the contiguous ", c10::getDtypeNames(dtype).first, " tensor of shape [5, ", rows,
      "] that the forward op gave, got ", dtype_name(statistics), " of shape ", statistics.sizes());
}

void check_features(const char* op, at::TensorList features) {
  TORCH_CHECK_VALUE(!features.empty(), op, ": expected at least one tensor of features, got none");
  for (size_t i = 0; i < features.size(); ++i) {
    const std::string stage = features.size() > 1 ? c10::str("[", i, "]") : std::string();
    check_floating(op, "features", stage, features[i]);
    TORCH_CHECK_VALUE(
        features[i].dim() >= 2, op, ": features", stage, " must have shape [B, C, ...], got ", features[i].sizes());
    TORCH_CHECK_VALUE(
        features[i].device() == features[0].device(), op, ": all features must be on the same device, got ",
        features[0].device(), " and ", features[i].device());
  }
}

void check_channel_grad(
    const char* op, const at::Tensor& grad, const at::Tensor& statistics, at::TensorList features) {
  const std::array<int64_t, 2> shape = {2, channels_of(features)};
  const at::ScalarType dtype = statistics.scalar_type();
  check_floating(op, "grad", "", grad);
  for (const at::Tensor* x : {&grad, &statistics}) {
    TORCH_CHECK_VALUE(
        x->device() == features[0].device(), op, ": grad and statistics must be on ", features[0].device(), ", got ",
        x->device());
  }
  TORCH_CHECK_VALUE(
      grad.sizes() == at::IntArrayRef(shape), op, ": grad must have the statistics' shape [2, ", shape[1], "], got ",
      grad.sizes());
  TORCH_CHECK_VALUE(
      statistics.sizes() == at::IntArrayRef(shape) && (dtype == at::kFloat || dtype == at::kDouble) &&
          statistics.is_contiguous(),
      op, ": statistics must be the contiguous tensor of shape [2, ", shape[1], "] that the forward op gave, got ",
      dtype_name(statistics), " of shape ", statistics.sizes());
}

void check_mixing(const char* op, at::TensorList tensors, const at::Tensor& lam, const at::Tensor& perm) {
  TORCH_CHECK_VALUE(!tensors.empty(), op, ": expected at least one tensor to mix, got none");
  for (const at::Tensor& x : tensors) {
    check_floating(op, "each tensor to mix", "", x);
    TORCH_CHECK_VALUE(
        x.dim() > 0, op, ": each tensor to mix must have a batch dimension, got a 0-dim tensor");
  }
  const auto batch = tensors[0].size(0);
  const auto device = tensors[0].device();
  for (const at::Tensor& x : tensors) {
    TORCH_CHECK_VALUE(
        x.size(0) == batch, op, ": the tensors to mix must have the same batch size, got ", batch, " and ", x.size(0));
    TORCH_CHECK_VALUE(
        x.device() == device, op, ": the tensors to mix must be on the same device, got ", device, " and ",
        x.device());
  }
  check_floating(op, "lam", "", lam);
  TORCH_CHECK_VALUE(
      !lam.requires_grad(), op, ": lam gets no gradient and must not require one, pass lam.detach()");
  TORCH_CHECK_VALUE(
      lam.dim() == 0 || (lam.dim() == 1 && lam.size(0) == batch), op, ": lam must be a scalar or have shape [", batch,
      "], got shape ", lam.sizes());
  TORCH_CHECK_VALUE(
      lam.device() == device || (lam.dim() == 0 && lam.device().is_cpu()), op, ": lam must be on ", device,
      " or be a scalar on the CPU, got ", lam.device());
  TORCH_CHECK_TYPE(perm.scalar_type() == at::kLong, op, ": perm must be int64, got ", dtype_name(perm));
  TORCH_CHECK_VALUE(
      perm.dim() == 1 && perm.size(0) == batch, op, ": perm must have shape [", batch, "], got shape ", perm.sizes());
  TORCH_CHECK_VALUE(perm.device() == device, op, ": perm must be on ", device, ", got ", perm.device());
}

namespace {

void check_channels(const char* op, const char* name, const std::optional<at::Tensor>& values, const at::Tensor& x) {
  if (!values) return;
  check_floating(op, name, "", *values);
  TORCH_CHECK_VALUE(
      values->dim() == 1 && values->size(0) == x.size(1), op, ": ", name, " must have shape [", x.size(1), "], got ",
      values->sizes());
  TORCH_CHECK_VALUE(
      values->device() == x.device(), op, ": x and ", name, " must be on the same device, got ", x.device(), " and ",
      values->device());
}

void check_like_x(const char* op, const char* name, const std::optional<at::Tensor>& value, const at::Tensor& x) {
  if (!value) return;
  TORCH_CHECK_VALUE(
      value->sizes() == x.sizes(), op, ": ", name, " must have the shape of x (nothing is broadcast), got ",
      value->sizes(), " and ", x.sizes());
  TORCH_CHECK_TYPE(
      value->scalar_type() == x.scalar_type(), op, ": ", name, " must have the dtype of x, got ", dtype_name(*value),
      " and ", dtype_name(x));
  TORCH_CHECK_VALUE(
      value->device() == x.device(), op, ": x and ", name, " must be on the same device, got ", x.device(), " and ",
      value->device());
}

}  // namespace

void check_batch_norm(
    const char* op, const at::Tensor& x, const std::optional<at::Tensor>& residual,
    const std::optional<at::Tensor>& weight, const std::optional<at::Tensor>& bias,
    const std::optional<at::Tensor>& given, bool constant, double slope, double eps) {
  check_floating(op, "x", "", x);
  TORCH_CHECK_VALUE(
      x.dim() >= 2 && x.size(1) > 0, op, ": x must have shape [B, C, ...] with at least one channel, got ", x.sizes());
  check_like_x(op, "residual", residual, x);
  check_channels(op, "weight", weight, x);
  check_channels(op, "bias", bias, x);
  TORCH_CHECK_VALUE(slope >= 0 && slope <= 1, op, ": slope must be between 0 and 1, got ", slope);
  TORCH_CHECK_VALUE(std::isfinite(eps) && eps >= 0, op, ": eps must be finite and not negative, got ", eps);
  TORCH_CHECK_VALUE(!constant || given, op, ": constant statistics must be given");
  TORCH_CHECK_VALUE(
      constant || x.numel() / x.size(1) > 1, op, ": the batch's statistics need more than one value per channel, got x ",
      x.sizes());
  if (!given) return;
  const at::ScalarType dtype = statistics_dtype({x});
  const std::array<int64_t, 2> shape = {2, x.size(1)};
  TORCH_CHECK_VALUE(
      given->sizes() == at::IntArrayRef(shape) && given->scalar_type() == dtype, op, ": statistics must be the ",
      c10::getDtypeNames(dtype).first, " tensor of shape [2, ", x.size(1), "] that the op gives, got ",
      dtype_name(*given), " of shape ", given->sizes());
  TORCH_CHECK_VALUE(
      given->device() == x.device(), op, ": x and statistics must be on the same device, got ", x.device(), " and ",
      given->device());
}

void check_batch_norm_backward(
    const char* op, const at::Tensor& grad, const at::Tensor& x, const std::optional<at::Tensor>& out) {
  check_like_x(op, "grad", grad, x);
  check_like_x(op, "out", out, x);
}

void check_filters(const char* op, const at::Tensor& weight, int64_t tile) {
  TORCH_CHECK_VALUE(tile == 2 || tile == 4, op, ": tile must be 2 or 4, got ", tile);
  TORCH_CHECK_TYPE(
      weight.scalar_type() == at::kFloat, op, ": the compiled kernels take float32, got ", dtype_name(weight),
      " for weight");
  TORCH_CHECK_VALUE(
      weight.dim() == 4 && weight.size(0) > 0 && weight.size(1) > 0 && weight.size(2) == 3 && weight.size(3) == 3, op,
      ": weight must have shape [K, C, 3, 3], got ", weight.sizes());
}

namespace {

// Another input must be float32 on the weight's device.
void check_beside(const char* op, const char* name, const at::Tensor& x, const at::Tensor& weight) {
  TORCH_CHECK_TYPE(
      x.scalar_type() == at::kFloat, op, ": the compiled kernels take float32, got ", dtype_name(x), " for ", name);
  TORCH_CHECK_VALUE(
      x.device() == weight.device(), op, ": ", name, " and weight must be on the same device, got ", x.device(),
      " and ", weight.device());
}

void check_images(const char* op, const char* name, const at::Tensor& x, const at::Tensor& weight, int64_t channels) {
  check_beside(op, name, x, weight);
  TORCH_CHECK_VALUE(
      x.dim() == 4 && x.size(1) == channels, op, ": ", name, " must have shape [N, ", channels,
      ", H, W] for weight of shape ", weight.sizes(), " (no groups), got ", x.sizes());
}

}  // namespace

void check_convolved(
    const char* op, const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias) {
  check_images(op, "x", x, weight, weight.size(1));
  if (!bias) return;
  check_beside(op, "bias", *bias, weight);
  TORCH_CHECK_VALUE(
      bias->dim() == 1 && bias->size(0) == weight.size(0), op, ": bias must have shape [", weight.size(0), "], got ",
      bias->sizes());
}

void check_transformed(const char* op, const at::Tensor& transformed, int64_t components, int64_t size) {
  const std::array<int64_t, 2> shape = {components, size};
  TORCH_CHECK_VALUE(
      transformed.scalar_type() == at::kFloat && transformed.device().is_cpu() &&
          transformed.sizes() == at::IntArrayRef(shape) && transformed.is_contiguous(),
      op, ": transformed filters must be the contiguous float32 tensor of shape [", components, ", ", size,
      "] that winograd_weight gives for the weight and tile, got ", dtype_name(transformed), " of shape ",
      transformed.sizes());
}

void check_convolution_grad(
    const char* op, const at::Tensor& grad, const std::optional<at::Tensor>& x, const at::Tensor& weight,
    const std::optional<at::Tensor>& result, bool weight_grad) {
  check_images(op, "grad", grad, weight, weight.size(0));
  TORCH_CHECK_VALUE(!weight_grad || x, op, ": the gradient of weight needs x, got none");
  if (x) {
    check_convolved(op, *x, weight, std::nullopt);
    TORCH_CHECK_VALUE(
        x->size(0) == grad.size(0) && x->sizes().slice(2) == grad.sizes().slice(2), op,
        ": grad must have the result's shape, got ", grad.sizes(), " for x of shape ", x->sizes());
  }
  if (!result) return;
  check_beside(op, "result", *result, weight);
  TORCH_CHECK_VALUE(
      result->sizes() == grad.sizes(), op, ": grad must have the result's shape, got ", grad.sizes(), " and ",
      result->sizes());
}

namespace {

// Shape of the result of narrow_conv2d.
std::array<int64_t, 4> narrow_shape(const at::Tensor& x, const at::Tensor& weight, int64_t stride) {
  return {x.size(0), weight.size(0), (x.size(2) + stride - 1) / stride, (x.size(3) + stride - 1) / stride};
}

void check_narrow_filters(const char* op, const at::Tensor& weight, const NarrowOptions& options) {
  const int64_t stride = options.stride, tile = options.tile;
  TORCH_CHECK_VALUE(stride == 1 || stride == 2, op, ": stride must be 1 or 2, got ", stride);
  TORCH_CHECK_VALUE(
      options.slope >= 0 && options.slope <= 1, op, ": slope must be in [0, 1], got ", options.slope);
  TORCH_CHECK_TYPE(
      weight.scalar_type() == at::kFloat, op, ": the compiled kernels take float32, got ", dtype_name(weight),
      " for weight");
  TORCH_CHECK_VALUE(
      weight.dim() == 4 && weight.size(0) > 0 && weight.size(1) > 0 && weight.size(2) == weight.size(3) &&
          (weight.size(2) == 1 || weight.size(2) == 3),
      op, ": weight must have shape [K, C, 3, 3] or [K, C, 1, 1], got ", weight.sizes());
  TORCH_CHECK_VALUE(
      tile == 0 || (tile == 4 && stride == 1 && weight.size(2) == 3), op,
      ": tile must be 0, or 4 for 3x3 filters and a stride of 1, got ", tile);
}

}  // namespace

void check_narrow(
    const char* op, const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
    const std::optional<at::Tensor>& residual, const NarrowOptions& options) {
  check_narrow_filters(op, weight, options);
  check_convolved(op, x, weight, bias);
  TORCH_CHECK_VALUE(
      !options.statistics || (options.slope == 1 && !residual), op,
      ": statistics are those of the convolution alone, without residual and activation");
  if (!residual) return;
  check_beside(op, "residual", *residual, weight);
  const auto shape = narrow_shape(x, weight, options.stride);
  TORCH_CHECK_VALUE(
      residual->sizes() == at::IntArrayRef(shape), op, ": residual must have the result's shape ",
      at::IntArrayRef(shape), ", got ", residual->sizes());
}

void check_narrow_grad(
    const char* op, const at::Tensor& grad, const at::Tensor& x, const at::Tensor& weight,
    const std::optional<at::Tensor>& out, const NarrowOptions& options) {
  check_narrow_filters(op, weight, options);
  check_convolved(op, x, weight, std::nullopt);
  TORCH_CHECK_VALUE(options.slope == 1 || out, op, ": the gradient of an activation needs its result, got none");
  const auto shape = narrow_shape(x, weight, options.stride);
  check_beside(op, "grad", grad, weight);
  TORCH_CHECK_VALUE(
      grad.sizes() == at::IntArrayRef(shape), op, ": grad must have the result's shape ", at::IntArrayRef(shape),
      ", got ", grad.sizes());
  if (!out) return;
  check_beside(op, "out", *out, weight);
  TORCH_CHECK_VALUE(
      out->sizes() == at::IntArrayRef(shape), op, ": out must have the result's shape ", at::IntArrayRef(shape),
      ", got ", out->sizes());
}

std::vector<int64_t> checked_inverse(const char* op, const at::Tensor& perm) {
  const int64_t n = perm.numel();
  const int64_t stride = n > 0 ? perm.stride(0) : 1;
  const int64_t* values = perm.const_data_ptr<int64_t>();
  std::vector<int64_t> inverse(n, -1);
  for (int64_t i = 0; i < n; ++i) {
    const int64_t index = values[i * stride];
    TORCH_CHECK_VALUE(
        index >= 0 && index < n, op, ": perm must be a permutation of 0..", n - 1, ", got ", index, " at position ", i);
    TORCH_CHECK_VALUE(
        inverse[index] < 0, op, ": perm must be a permutation of 0..", n - 1, ", got ", index, " again at position ", i);
    inverse[index] = i;
  }
  return inverse;
}

}  // namespace dfad
