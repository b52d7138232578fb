#include <ATen/ops/empty_like.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include "../arithmetic/absolute_difference.h"
#include "../checks.h"
#include "../difference_signs.h"
#include "../dtypes.h"
#include "../ops.h"
#include "pairwise.cuh"
#include "reduce.cuh"

namespace dfad::cuda {
namespace {

constexpr const char* name = "l1_discrepancy";

// Where the student is at least its teacher, and where it is at most: one bit per element each. Null where not wanted.
struct DifferenceSigns {
  uint8_t* at_least = nullptr;
  uint8_t* at_most = nullptr;
};

template <class A>
__global__ void __launch_bounds__(threads, resident_blocks<A>) losses(
    const __grid_constant__ Loop<3> loop, DifferenceSigns signs, SumTarget target, double factor, bool reduced) {
  const AbsoluteDifference l1;
  A sum = 0;
  for_each_tile(loop.elements, blockIdx.x, [&](int64_t begin) {
    unsigned at_least = 0, at_most = 0;
    for_tile<A, 1>(loop, begin, [&](Element element, const A (&in)[2], A (&out)[1]) {
      out[0] = l1.loss(in[0], in[1]);
      sum += out[0];
      at_least |= unsigned{in[0] >= in[1]} << element.own;
      at_most |= unsigned{in[0] <= in[1]} << element.own;
    });
    if (signs.at_least == nullptr) return;
    store_bits<A>(signs.at_least, loop, begin, at_least);
    store_bits<A>(signs.at_most, loop, begin, at_most);
  });
  if (!reduced) return;
  const double total = block_sum(sum);
  target.add(total * factor);
}

template <class A>
__global__ void __launch_bounds__(threads, resident_blocks<A>)
    gradients(const __grid_constant__ Loop<3> loop, DifferenceSigns signs, Scale scale, double factor) {
  const AbsoluteDifference l1;
  const bool per_element = loop.data[2] != nullptr;
  const A shared = static_cast<A>(scale.times(factor));
  for_each_tile(loop.elements, blockIdx.x, [&](int64_t begin) {
    const unsigned at_least = load_bits<A>(signs.at_least, loop, begin);
    const unsigned at_most = load_bits<A>(signs.at_most, loop, begin);
    for_tile<A, 2>(loop, begin, [&](Element element, const A (&in)[1], A (&out)[2]) {
      out[0] = l1.student_gradient_of_signs(
          (at_least >> element.own & 1u) != 0, (at_most >> element.own & 1u) != 0, per_element ? in[0] : shared);
      out[1] = -out[0];
    });
  });
}

DifferenceSigns signs_in(const at::Tensor& bits) {
  auto* at_least = bits.data_ptr<uint8_t>();
  return {at_least, at_least + bits.stride(0)};
}

double mean_factor(int64_t elements, Reduction reduction) {
  return reduction == Reduction::mean ? 1.0 / static_cast<double>(elements) : 1.0;
}

ops::L1Result l1_discrepancy(
    const at::Tensor& student, const at::Tensor& teacher, std::string_view reduction_name, bool save_signs,
    std::optional<at::ScalarType> wanted) {
  const Reduction reduction = check_reduction(name, reduction_name);
  check_pair(name, student, teacher);
  const at::ScalarType dtype = result_dtype(student, teacher, wanted);
  const c10::cuda::CUDAGuard guard(student.device());

  const bool reduced = reduction != Reduction::none;
  const at::Tensor out = reduced ? at::Tensor() : at::empty_like(student, student.options().dtype(dtype));
  std::vector<at::Tensor> saved;
  if (save_signs) saved.push_back(empty_difference_signs(student));
  const DifferenceSigns signs = save_signs ? signs_in(saved[0]) : DifferenceSigns{};
  DenseCopies copies;
  const auto loop = loop_over<1>({out, student, teacher}, student.sizes(), dense_strides(student), copies);
  const int64_t chunks = chunks_of(loop.elements);
  const auto kernel = computes_in_double(student, teacher) ? losses<double> : losses<float>;
  if (!reduced) {
    launch(kernel, chunks, loop, signs, SumTarget{}, 1.0, false);
    copies.write_back();
    return {out, std::move(saved)};
  }
  const Total total(std::max<int64_t>(chunks, 1), dtype, student.options());
  launch(
      kernel, std::max<int64_t>(chunks, 1), loop, signs, total.target(), mean_factor(student.numel(), reduction), true);
  return {total.out(), std::move(saved)};
}

std::vector<at::Tensor> l1_discrepancy_backward(
    const at::Tensor& grad, const at::Tensor& signs, at::IntArrayRef size, at::IntArrayRef stride,
    std::optional<at::ScalarType> student, std::optional<at::ScalarType> teacher, std::string_view reduction_name) {
  const Reduction reduction = check_reduction(name, reduction_name);
  const c10::cuda::CUDAGuard guard(signs.device());
  std::vector<at::Tensor> grads = empty_l1_gradients(name, grad, signs, size, stride, student, teacher, reduction);
  if (grads.empty()) return grads;

  const bool per_element = reduction == Reduction::none;
  DenseCopies copies;
  const auto loop = loop_over<2>(
      {student ? grads.front() : at::Tensor(), teacher ? grads.back() : at::Tensor(),
       per_element ? grad : at::Tensor()},
      size, dense_strides(grads[0]), copies);
  launch(
      computes_in_double(grad, grads.front(), grads.back()) ? gradients<double> : gradients<float>,
      chunks_of(loop.elements), loop, signs_in(signs), scale_of(grad, per_element),
      mean_factor(loop.elements, reduction));
  copies.write_back();
  return grads;
}

TORCH_LIBRARY_IMPL(dfad_fast, CUDA, m) {
  m.impl("l1_discrepancy", l1_discrepancy);
  m.impl("l1_discrepancy_backward", l1_discrepancy_backward);
}

}  // namespace
}  // namespace dfad::cuda
