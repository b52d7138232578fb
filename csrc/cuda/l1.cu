#include <ATen/ops/empty_like.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include "../arithmetic/absolute_difference.h"
#include "../checks.h"
#include "../dtypes.h"
#include "pairwise.cuh"
#include "reduce.cuh"

namespace dfad::cuda {
namespace {

constexpr const char* name = "l1_discrepancy";

template <class A>
__global__ void __launch_bounds__(threads)
    losses(const __grid_constant__ Loop<3> loop, SumTarget target, double factor, bool reduced) {
  const AbsoluteDifference l1;
  A sum = 0;
  for_each_vector(loop.elements, blockIdx.x, [&](int64_t begin) {
    for_vector<A, vector_width, 1>(loop, begin, [&](int, const A (&in)[2], A (&out)[1]) {
      out[0] = l1.loss(in[0], in[1]);
      sum += out[0];
    });
  });
  if (!reduced) return;
  const double total = block_sum(sum);
  if (threadIdx.x == 0) target.write(blockIdx.x, total * factor);
}

template <class A>
__global__ void __launch_bounds__(threads)
    gradients(const __grid_constant__ Loop<5> loop, Scale scale, double factor) {
  const AbsoluteDifference l1;
  const bool per_element = loop.data[4] != nullptr;
  const A shared = static_cast<A>(scale.times(factor));
  for_each_vector(loop.elements, blockIdx.x, [&](int64_t begin) {
    for_vector<A, vector_width, 2>(loop, begin, [&](int, const A (&in)[3], A (&out)[2]) {
      out[0] = l1.student_gradient(in[0], in[1], per_element ? in[2] : shared);
      out[1] = -out[0];
    });
  });
}

double mean_factor(const at::Tensor& student, Reduction reduction) {
  return reduction == Reduction::mean ? 1.0 / static_cast<double>(student.numel()) : 1.0;
}

at::Tensor l1_discrepancy(
    const at::Tensor& student, const at::Tensor& teacher, std::string_view reduction_name,
    std::optional<at::ScalarType> wanted) {
  const Reduction reduction = check_reduction(name, reduction_name);
  check_pair(name, student, teacher);
  const at::ScalarType dtype = result_dtype(student, teacher, wanted);
  const c10::cuda::CUDAGuard guard(student.device());

  const bool reduced = reduction != Reduction::none;
  const at::Tensor out = reduced ? at::Tensor() : at::empty_like(student, student.options().dtype(dtype));
  DenseCopies copies;
  const auto loop = loop_over<1>({out, student, teacher}, student.sizes(), dense_strides(student), copies);
  const int64_t chunks = ceil_div(loop.elements, chunk_size);
  const auto kernel = computes_in_double(student, teacher) ? losses<double> : losses<float>;
  if (!reduced) {
    launch(kernel, chunks, loop, SumTarget{}, 1.0, false);
    copies.write_back();
    return out;
  }
  const Total total(std::max<int64_t>(chunks, 1), dtype, student.options());
  launch(kernel, std::max<int64_t>(chunks, 1), loop, total.target(), mean_factor(student, reduction), true);
  return total.finish();
}

std::vector<at::Tensor> l1_discrepancy_backward(
    const at::Tensor& grad, const at::Tensor& student, const at::Tensor& teacher, std::string_view reduction_name,
    bool student_grad, bool teacher_grad) {
  const Reduction reduction = check_reduction(name, reduction_name);
  check_pair(name, student, teacher);
  check_grad(name, grad, student.device(), student.sizes(), reduction);
  const c10::cuda::CUDAGuard guard(student.device());

  const bool per_element = reduction == Reduction::none;
  const at::Tensor to_student = student_grad ? at::empty_like(student) : at::Tensor();
  const at::Tensor to_teacher = teacher_grad ? at::empty_like(teacher) : at::Tensor();
  DenseCopies copies;
  const auto loop = loop_over<2>(
      {to_student, to_teacher, student, teacher, per_element ? grad : at::Tensor()}, student.sizes(),
      dense_strides(student), copies);
  launch(
      computes_in_double(student, teacher) ? gradients<double> : gradients<float>,
      ceil_div(loop.elements, chunk_size), loop, scale_of(grad, per_element), mean_factor(student, reduction));
  copies.write_back();

  std::vector<at::Tensor> grads;
  if (student_grad) grads.push_back(to_student);
  if (teacher_grad) grads.push_back(to_teacher);
  return grads;
}

TORCH_LIBRARY_IMPL(dfad_fast, CUDA, m) {
  m.impl("l1_discrepancy", l1_discrepancy);
  m.impl("l1_discrepancy_backward", l1_discrepancy_backward);
}

}  // namespace
}  // namespace dfad::cuda
