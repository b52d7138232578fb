#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include "../checks.h"
#include "../dtypes.h"
#include "../ops.h"
#include "reduce.h"
#include "stages.h"
#include "tiers.h"

namespace dfad::cpu {
namespace {

constexpr const char* name = "boundary_hinge_loss";

bool is_packed(const at::Tensor& teacher) { return teacher.scalar_type() == at::kByte; }

at::Tensor empty_signs(const at::Tensor& like) {
  return at::empty({(like.numel() + 7) / 8}, like.options().dtype(at::kByte));
}

ops::HingeResult boundary_hinge_loss(
    at::TensorList student, at::TensorList teacher, at::ArrayRef<double> weights, double margin,
    std::string_view reduction_name, bool with_agreement, bool save_signs, std::optional<at::ScalarType> wanted) {
  const Reduction reduction = check_reduction(name, reduction_name);
  check_margin(name, margin);
  check_stages(name, student, teacher, weights, reduction);
  const at::ScalarType dtype = result_dtype(student, teacher, wanted);

  at::Tensor each;
  if (reduction == Reduction::none) each = at::empty_like(student[0], student[0].options().dtype(dtype));
  std::vector<at::Tensor> signs;
  c10::SmallVector<uint8_t*, 4> signs_out(student.size());
  Stages stages;
  for (size_t k = 0; k < student.size(); ++k) {
    Tensors tensors = {&student[k]};
    if (!is_packed(teacher[k])) tensors.push_back(&teacher[k]);
    if (each.defined()) tensors.push_back(&each);
    stages.add(student[k], std::move(tensors), computes_in_double(student[k], teacher[k]));
    if (!save_signs || is_packed(teacher[k])) continue;
    signs.push_back(empty_signs(student[k]));
    signs_out[k] = signs.back().mutable_data_ptr<uint8_t>();
  }

  BlockSums losses(stages), agreeing(stages);
  const Kernels& kernels = active_kernels();
  stages.for_each_block([&](size_t k, const Stage& stage, int64_t block, auto zero) {
    using A = decltype(zero);
    const bool packed = is_packed(teacher[k]);
    const HingeSum sum = kernels.of<A>().hinge.loss(
        {static_cast<A>(margin)}, stage.shape(), stage.operand(0),
        packed ? Teacher{{}, teacher[k].const_data_ptr<uint8_t>()} : Teacher{stage.operand(1), nullptr}, signs_out[k],
        each.defined() ? stage.operand(packed ? 1 : 2) : Operand{}, stage.range(block));
    losses[block] = sum.loss;
    agreeing[block] = static_cast<double>(sum.agreeing);
  });

  at::Tensor agreement = at::empty({with_agreement ? static_cast<int64_t>(student.size()) : 0}, at::kFloat);
  double total = 0;
  for (size_t k = 0; k < student.size(); ++k) {
    const Stage& stage = stages.list()[k];
    total += weights[k] * reduced(reduction, losses.of(stage), stage.elements);
    if (!with_agreement) continue;
    agreement.mutable_data_ptr<float>()[k] =
        static_cast<float>(agreeing.of(stage) / static_cast<double>(stage.elements));
  }
  return {each.defined() ? each : scalar_tensor(total, dtype), agreement, signs};
}

std::vector<at::Tensor> boundary_hinge_loss_backward(
    const at::Tensor& grad, at::TensorList student, at::TensorList signs, at::ArrayRef<double> weights, double margin,
    std::string_view reduction_name) {
  const Reduction reduction = check_reduction(name, reduction_name);
  check_margin(name, margin);
  for (const at::Tensor& bits : signs) {
    TORCH_CHECK_TYPE(is_packed(bits), name, ": signs must be packed signs (uint8), got ", c10::getDtypeNames(bits.scalar_type()).first);
  }
  check_stages(name, student, signs, weights, reduction);
  check_grad(name, grad, student[0].device(), student[0].sizes(), reduction);

  std::vector<at::Tensor> grads;
  grads.reserve(student.size());
  Stages stages;
  c10::SmallVector<double, 4> scales;
  for (size_t k = 0; k < student.size(); ++k) {
    grads.push_back(at::empty_like(student[k]));
    Tensors tensors = {&student[k], &grads[k]};
    if (reduction == Reduction::none) tensors.push_back(&grad);
    stages.add(student[k], std::move(tensors), student[k].scalar_type() == at::kDouble);
    const double weight = reduction == Reduction::none ? 1.0 : weights[k];
    scales.push_back(weight * gradient_scale(reduction, grad, student[k].numel()));
  }
  const Kernels& kernels = active_kernels();
  stages.for_each_block([&](size_t k, const Stage& stage, int64_t block, auto zero) {
    using A = decltype(zero);
    const IncomingGradient incoming = {reduction == Reduction::none ? stage.operand(2) : Operand{}, scales[k]};
    kernels.of<A>().hinge.gradient(
        {static_cast<A>(margin)}, stage.shape(), stage.operand(0), signs[k].const_data_ptr<uint8_t>(), incoming,
        stage.operand(1), stage.range(block));
  });
  return grads;
}

at::Tensor pack_signs(const at::Tensor& teacher) {
  check_floating("pack_signs", "teacher", "", teacher);
  at::Tensor signs = empty_signs(teacher);
  uint8_t* out = signs.mutable_data_ptr<uint8_t>();
  Stages stages;
  stages.add(teacher, {&teacher}, teacher.scalar_type() == at::kDouble);
  const Kernels& kernels = active_kernels();
  stages.for_each_block([&](size_t, const Stage& stage, int64_t block, auto zero) {
    kernels.of<decltype(zero)>().hinge.pack(stage.shape(), stage.operand(0), out, stage.range(block));
  });
  return signs;
}

TORCH_LIBRARY_IMPL(dfad_fast, CPU, m) {
  m.impl("boundary_hinge_loss", boundary_hinge_loss);
  m.impl("boundary_hinge_loss_backward", boundary_hinge_loss_backward);
  m.impl("pack_signs", pack_signs);
}

}  // namespace
}  // namespace dfad::cpu
