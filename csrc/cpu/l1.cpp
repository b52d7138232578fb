#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include "../checks.h"
#include "../dtypes.h"
#include "reduce.h"
#include "stages.h"
#include "tiers.h"

namespace dfad::cpu {
namespace {

constexpr const char* name = "l1_discrepancy";

at::Tensor l1_discrepancy(
    const at::Tensor& student, const at::Tensor& teacher, std::string_view reduction_name,
    std::optional<at::ScalarType> wanted) {
  const Reduction reduction = check_reduction(name, reduction_name);
  check_pair(name, student, teacher);
  const at::ScalarType dtype = result_dtype(student, teacher, wanted);
  const bool wide = computes_in_double(student, teacher);
  const Kernels& kernels = active_kernels();
  Stages stages;
  if (reduction == Reduction::none) {
    at::Tensor out = at::empty_like(student, student.options().dtype(dtype));
    stages.add(student, {&student, &teacher, &out}, wide);
    stages.for_each_block([&](size_t, const Stage& stage, int64_t block, auto zero) {
      kernels.of<decltype(zero)>().l1.map(
          {stage.shape(), stage.operand(0), stage.operand(1)}, stage.operand(2), stage.range(block));
    });
    return out;
  }
  stages.add(student, {&student, &teacher}, wide);
  BlockSums sums(stages);
  stages.for_each_block([&](size_t, const Stage& stage, int64_t block, auto zero) {
    sums[block] = kernels.of<decltype(zero)>().l1.sum(
        {stage.shape(), stage.operand(0), stage.operand(1)}, stage.range(block));
  });
  return scalar_tensor(reduced(reduction, sums.of(stages.list()[0]), student.numel()), dtype);
}

std::vector<at::Tensor> l1_discrepancy_backward(
    const at::Tensor& grad, const at::Tensor& student, const at::Tensor& teacher, std::string_view reduction_name,
    bool student_grad, bool teacher_grad) {
  const Reduction reduction = check_reduction(name, reduction_name);
  check_pair(name, student, teacher);
  check_grad(name, grad, student.device(), student.sizes(), reduction);
  std::vector<at::Tensor> grads;
  if (student_grad) grads.push_back(at::empty_like(student));
  if (teacher_grad) grads.push_back(at::empty_like(teacher));
  if (grads.empty()) return grads;

  const size_t first = 2;
  Tensors tensors = {&student, &teacher};
  for (const at::Tensor& out : grads) tensors.push_back(&out);
  if (reduction == Reduction::none) tensors.push_back(&grad);
  Stages stages;
  stages.add(student, std::move(tensors), computes_in_double(student, teacher));
  const double scale = gradient_scale(reduction, grad, student.numel());
  const Kernels& kernels = active_kernels();
  stages.for_each_block([&](size_t, const Stage& stage, int64_t block, auto zero) {
    const size_t last = first + grads.size();
    kernels.of<decltype(zero)>().l1.gradient(
        {stage.shape(), stage.operand(0), stage.operand(1)},
        {reduction == Reduction::none ? stage.operand(last) : Operand{}, scale},
        student_grad ? stage.operand(first) : Operand{}, teacher_grad ? stage.operand(last - 1) : Operand{},
        stage.range(block));
  });
  return grads;
}

TORCH_LIBRARY_IMPL(dfad_fast, CPU, m) {
  m.impl("l1_discrepancy", l1_discrepancy);
  m.impl("l1_discrepancy_backward", l1_discrepancy_backward);
}

}  // namespace
}  // namespace dfad::cpu
