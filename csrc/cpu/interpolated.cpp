#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include "../checks.h"
#include "../dtypes.h"
#include "reduce.h"
#include "samples.h"
#include "tiers.h"

namespace dfad::cpu {
namespace {

constexpr const char* name = "interpolated_l1";

// Students, teachers and, by position, whatever else goes with them, sample by sample.
struct Batch {
  Samples samples;
  Mixing mixing;
  bool wide;
  double scale = 1.0;
  // Position of a gradient per element, or -1.
  int grad = -1;

  template <class A>
  Interpolated<A> sample(int64_t i) const {
    return {
        mixing.weights<A>(i), samples.operand(0, i), samples.operand(1, i), samples.operand(1, mixing.partner[i]),
        {grad < 0 ? Operand{} : samples.operand(grad, i), scale}};
  }

  // Calls body(sample, block of it, number of the block among all, compute type's zero).
  template <class Body>
  void for_each_block(const Body& body) const {
    const int64_t batch = static_cast<int64_t>(mixing.own.size()), blocks = samples.blocks();
    cpu::for_each_block(batch * blocks, batch * samples.elements(), [&](int64_t item) {
      if (wide) {
        body(item / blocks, item % blocks, item, double{});
      } else {
        body(item / blocks, item % blocks, item, float{});
      }
    });
  }
};

at::Tensor interpolated_l1(
    const at::Tensor& student, const at::Tensor& teacher, const at::Tensor& lam, const at::Tensor& perm,
    std::string_view reduction_name, std::optional<at::ScalarType> wanted) {
  const Reduction reduction = check_reduction(name, reduction_name);
  check_pair(name, student, teacher);
  check_mixing(name, teacher, lam, perm);
  checked_inverse(name, perm);
  const at::ScalarType dtype = result_dtype(student, teacher, wanted);
  const bool wide = computes_in_double(student, teacher);
  const Kernels& kernels = active_kernels();
  if (reduction == Reduction::none) {
    at::Tensor out = at::empty_like(student, student.options().dtype(dtype));
    const Batch batch = {Samples(student, {&student, &teacher, &out}), forward_mixing(lam, perm), wide};
    const Samples& samples = batch.samples;
    batch.for_each_block([&](int64_t i, int64_t block, int64_t, auto zero) {
      using A = decltype(zero);
      kernels.of<A>().interpolated.map(
          batch.sample<A>(i), samples.shape(), samples.operand(2, i), samples.range(block));
    });
    return out;
  }
  const Batch batch = {Samples(student, {&student, &teacher}), forward_mixing(lam, perm), wide};
  const Samples& samples = batch.samples;
  std::vector<double> sums(student.size(0) * samples.blocks());
  batch.for_each_block([&](int64_t i, int64_t block, int64_t item, auto zero) {
    using A = decltype(zero);
    sums[item] = kernels.of<A>().interpolated.sum(batch.sample<A>(i), samples.shape(), samples.range(block));
  });
  double total = 0;
  for (const double sum : sums) total += sum;
  return scalar_tensor(reduced(reduction, total, student.numel()), dtype);
}

std::vector<at::Tensor> interpolated_l1_backward(
    const at::Tensor& grad, const at::Tensor& student, const at::Tensor& teacher, const at::Tensor& lam,
    const at::Tensor& perm, std::string_view reduction_name, bool student_grad, bool teacher_grad) {
  const Reduction reduction = check_reduction(name, reduction_name);
  check_pair(name, student, teacher);
  check_mixing(name, teacher, lam, perm);
  check_grad(name, grad, student.sizes(), reduction);
  const std::vector<int64_t> inverse = checked_inverse(name, perm);
  std::vector<at::Tensor> grads;
  if (student_grad) grads.push_back(at::empty_like(student));
  if (teacher_grad) grads.push_back(at::empty_like(teacher));
  if (grads.empty()) return grads;

  const int first = 2, last = first + static_cast<int>(grads.size());
  c10::SmallVector<const at::Tensor*, 5> tensors = {&student, &teacher};
  for (const at::Tensor& out : grads) tensors.push_back(&out);
  if (reduction == Reduction::none) tensors.push_back(&grad);
  const Batch batch = {
      Samples(student, tensors), forward_mixing(lam, perm), computes_in_double(student, teacher),
      gradient_scale(reduction, grad, student.numel()), reduction == Reduction::none ? last : -1};
  const Samples& samples = batch.samples;
  const Kernels& kernels = active_kernels();
  batch.for_each_block([&](int64_t i, int64_t block, int64_t, auto zero) {
    using A = decltype(zero);
    const auto& interpolated = kernels.of<A>().interpolated;
    if (student_grad) {
      interpolated.student_gradient(
          batch.sample<A>(i), samples.shape(), samples.operand(first, i), samples.range(block));
    }
    if (teacher_grad) {
      interpolated.teacher_gradient(
          batch.sample<A>(i), batch.sample<A>(inverse[i]), samples.shape(), samples.operand(last - 1, i),
          samples.range(block));
    }
  });
  return grads;
}

TORCH_LIBRARY_IMPL(dfad_fast, CPU, m) {
  m.impl("interpolated_l1", interpolated_l1);
  m.impl("interpolated_l1_backward", interpolated_l1_backward);
}

}  // namespace
}  // namespace dfad::cpu
