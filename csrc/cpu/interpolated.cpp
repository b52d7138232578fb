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

// Elements that one work item covers at least: short samples are served by the dozen.
constexpr int64_t elements_per_item = 4096;

// Students, teachers and whatever else goes with them.
class Batch {
 public:
  Batch(const at::Tensor& lam, const at::Tensor& perm, c10::SmallVector<const at::Tensor*, 5> tensors, bool wide)
      : samples_(*tensors[0], tensors), tensors_(std::move(tensors)), mixing_(forward_mixing(lam, perm)), wide_(wide) {
    const int64_t elements = std::max<int64_t>(samples_.elements(), 1);
    samples_per_item_ = std::max<int64_t>(elements_per_item / elements, 1);
  }

  InterpolatedBatch::Rows rows(size_t tensor) const {
    return {samples_.operand(tensor, 0), tensors_[tensor]->stride(0)};
  }

  // With a gradient per element where `grad` names its position, else with the same `scale` for all.
  InterpolatedBatch kernel_argument(double scale = 1.0, std::optional<size_t> grad = std::nullopt) const {
    return {
        samples_.shape(), rows(0), rows(1), mixing_.own.data(), mixing_.other.data(), mixing_.partner.data(),
        grad ? rows(*grad) : InterpolatedBatch::Rows{}, scale};
  }

  int64_t parts() const {
    return blocks_in(samples_.elements()) * ((batch() + samples_per_item_ - 1) / samples_per_item_);
  }

  // Calls body(kernels of the compute type, part, number of the part) for all parts of the batch.
  template <class Body>
  void for_each_part(const Body& body) const {
    const Kernels& kernels = active_kernels();
    const InterpolatedKernels& chosen = wide_ ? kernels.f64.interpolated : kernels.f32.interpolated;
    const int64_t blocks = samples_.blocks();
    for_each_block(parts(), batch() * samples_.elements(), [&](int64_t item) {
      const int64_t first = item / blocks * samples_per_item_;
      const int64_t last = std::min(first + samples_per_item_, batch());
      body(chosen, InterpolatedPart{first, last, samples_.range(item % blocks)}, item);
    });
  }

 private:
  int64_t batch() const { return static_cast<int64_t>(mixing_.own.size()); }

  Samples samples_;
  c10::SmallVector<const at::Tensor*, 5> tensors_;
  Mixing mixing_;
  bool wide_;
  int64_t samples_per_item_;
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
  if (reduction == Reduction::none) {
    at::Tensor out = at::empty_like(student, student.options().dtype(dtype));
    const Batch batch(lam, perm, {&student, &teacher, &out}, wide);
    const InterpolatedBatch argument = batch.kernel_argument();
    batch.for_each_part([&](const InterpolatedKernels& kernels, InterpolatedPart part, int64_t) {
      kernels.map(argument, batch.rows(2), part);
    });
    return out;
  }
  const Batch batch(lam, perm, {&student, &teacher}, wide);
  const InterpolatedBatch argument = batch.kernel_argument();
  std::vector<double> sums(batch.parts());
  batch.for_each_part([&](const InterpolatedKernels& kernels, InterpolatedPart part, int64_t item) {
    sums[item] = kernels.sum(argument, part);
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
  check_grad(name, grad, student.device(), student.sizes(), reduction);
  const std::vector<int64_t> inverse = checked_inverse(name, perm);
  std::vector<at::Tensor> grads;
  if (student_grad) grads.push_back(at::empty_like(student));
  if (teacher_grad) grads.push_back(at::empty_like(teacher));
  if (grads.empty()) return grads;

  const size_t first = 2, last = first + grads.size();
  c10::SmallVector<const at::Tensor*, 5> tensors = {&student, &teacher};
  for (const at::Tensor& out : grads) tensors.push_back(&out);
  if (reduction == Reduction::none) tensors.push_back(&grad);
  const Batch batch(lam, perm, std::move(tensors), computes_in_double(student, teacher));
  const InterpolatedBatch argument = batch.kernel_argument(
      gradient_scale(reduction, grad, student.numel()),
      reduction == Reduction::none ? std::make_optional(last) : std::nullopt);
  batch.for_each_part([&](const InterpolatedKernels& kernels, InterpolatedPart part, int64_t) {
    if (student_grad) kernels.student_gradient(argument, batch.rows(first), part);
    if (teacher_grad) kernels.teacher_gradient(argument, inverse.data(), batch.rows(last - 1), part);
  });
  return grads;
}

TORCH_LIBRARY_IMPL(dfad_fast, CPU, m) {
  m.impl("interpolated_l1", interpolated_l1);
  m.impl("interpolated_l1_backward", interpolated_l1_backward);
}

}  // namespace
}  // namespace dfad::cpu
