#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include "../checks.h"
#include "../difference_signs.h"
#include "../dtypes.h"
#include "../ops.h"
#include "reduce.h"
#include "stages.h"
#include "tiers.h"

namespace dfad::cpu {
namespace {

constexpr const char* name = "l1_discrepancy";

DifferenceSigns signs_in(const at::Tensor& bits) {
  auto* at_least = bits.data_ptr<uint8_t>();
  return {at_least, at_least + bits.stride(0)};
}

ops::L1Result l1_discrepancy(
    const at::Tensor& student, const at::Tensor& teacher, std::string_view reduction_name, bool save_signs,
    std::optional<at::ScalarType> wanted) {
  const Reduction reduction = check_reduction(name, reduction_name);
  check_pair(name, student, teacher);
  const at::ScalarType dtype = result_dtype(student, teacher, wanted);
  const bool wide = computes_in_double(student, teacher);
  const Kernels& kernels = active_kernels();
  std::vector<at::Tensor> saved;
  if (save_signs) saved.push_back(empty_difference_signs(student));
  const DifferenceSigns signs = save_signs ? signs_in(saved[0]) : DifferenceSigns{};
  Stages stages;
  if (reduction == Reduction::none) {
    at::Tensor out = at::empty_like(student, student.options().dtype(dtype));
    stages.add(student, {&student, &teacher, &out}, wide);
    stages.for_each_block([&](size_t, const Stage& stage, int64_t block, auto zero) {
      kernels.of<decltype(zero)>().l1.map(
          {stage.shape(), stage.operand(0), stage.operand(1)}, signs, stage.operand(2), stage.range(block));
    });
    return {out, std::move(saved)};
  }
  stages.add(student, {&student, &teacher}, wide);
  BlockSums sums(stages);
  stages.for_each_block([&](size_t, const Stage& stage, int64_t block, auto zero) {
    sums[block] = kernels.of<decltype(zero)>().l1.sum(
        {stage.shape(), stage.operand(0), stage.operand(1)}, signs, stage.range(block));
  });
  const double sum = sums.of(stages.list()[0]);
  return {scalar_tensor(reduced(reduction, sum, student.numel()), dtype), std::move(saved)};
}

std::vector<at::Tensor> l1_discrepancy_backward(
    const at::Tensor& grad, const at::Tensor& signs, at::IntArrayRef size, at::IntArrayRef stride,
    std::optional<at::ScalarType> student, std::optional<at::ScalarType> teacher, std::string_view reduction_name) {
  const Reduction reduction = check_reduction(name, reduction_name);
  std::vector<at::Tensor> grads = empty_l1_gradients(name, grad, signs, size, stride, student, teacher, reduction);
  if (grads.empty()) return grads;

  Tensors tensors;
  for (const at::Tensor& out : grads) tensors.push_back(&out);
  if (reduction == Reduction::none) tensors.push_back(&grad);
  Stages stages;
  stages.add(grads[0], std::move(tensors), computes_in_double(grad, grads.front(), grads.back()));
  const double scale = gradient_scale(reduction, grad, grads[0].numel());
  const Kernels& kernels = active_kernels();
  stages.for_each_block([&](size_t, const Stage& stage, int64_t block, auto zero) {
    const size_t last = grads.size();
    kernels.of<decltype(zero)>().l1.gradient(
        stage.shape(), signs_in(signs), {reduction == Reduction::none ? stage.operand(last) : Operand{}, scale},
        student ? stage.operand(0) : Operand{}, teacher ? stage.operand(last - 1) : Operand{}, stage.range(block));
  });
  return grads;
}

TORCH_LIBRARY_IMPL(dfad_fast, CPU, m) {
  m.impl("l1_discrepancy", l1_discrepancy);
  m.impl("l1_discrepancy_backward", l1_discrepancy_backward);
}

}  // namespace
}  // namespace dfad::cpu
