#include <ATen/ops/empty_like.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include <limits>

#include "../arithmetic/absolute_difference.h"
#include "../arithmetic/mixture.h"
#include "../checks.h"
#include "../dtypes.h"
#include "reduce.cuh"
#include "rows.cuh"
#include "scale.cuh"

namespace dfad::cuda {
namespace {

constexpr const char* name = "interpolated_l1";
constexpr int64_t batch_dim = 0;
constexpr int width = 8;
constexpr int teacher_width = 4;  // its eight operands would not fit the registers otherwise

// Blocks that a multiprocessor should hold; told nothing, the compiler spills registers to hold one more.
template <class A>
constexpr int resident_blocks = sizeof(A) == 4 ? 4 : 2;

template <class A>
__device__ __forceinline__ Mixture<A> label_of(const Mixing& mixing, int64_t row) {
  const double lam = mixing.lam_of(row);
  return {static_cast<A>(lam), static_cast<A>(1.0 - lam)};
}

// The operands are loss, student and, for a row and its partner, teacher; the loop covers one row.
template <class A>
__global__ void __launch_bounds__(threads, resident_blocks<A>) losses(
    const __grid_constant__ Loop<4> loop, const __grid_constant__ Mixing mixing, SumTarget target, double factor,
    bool reduced) {
  A sum = 0;
  for_each_row_vector<width>(mixing.batch, loop.elements, blockIdx.x, [&](int64_t row, int64_t begin) {
    const int64_t partner = mixing.partner_of(row);
    const bool missing = partner < 0;
    const Mixture<A> label = label_of<A>(mixing, row);
    const int64_t base[4] = {
        row * loop.outer[0], row * loop.outer[1], row * loop.outer[2], (missing ? row : partner) * loop.outer[3]};
    for_vector<A, width, 1>(loop, base, begin, [&](int, const A (&in)[3], A (&out)[1]) {
      out[0] = missing ? std::numeric_limits<A>::quiet_NaN() : AbsoluteDifference{}.loss(in[0], label(in[1], in[2]));
      sum += out[0];
    });
  });
  if (!reduced) return;
  const double total = block_sum(sum);
  if (threadIdx.x == 0) target.write(blockIdx.x, total * factor);
}

// The operands are the gradient, student, teacher, its partner's row, and grad.
template <class A>
__global__ void __launch_bounds__(threads, resident_blocks<A>) student_gradients(
    const __grid_constant__ Loop<5> loop, const __grid_constant__ Mixing mixing, Scale scale, double factor) {
  const bool per_element = loop.data[4] != nullptr;
  const A shared = static_cast<A>(scale.times(factor));
  for_each_row_vector<width>(mixing.batch, loop.elements, blockIdx.x, [&](int64_t row, int64_t begin) {
    const int64_t partner = mixing.partner_of(row);
    const bool missing = partner < 0;
    const Mixture<A> label = label_of<A>(mixing, row);
    const int64_t base[5] = {
        row * loop.outer[0], row * loop.outer[1], row * loop.outer[2], (missing ? row : partner) * loop.outer[3],
        row * loop.outer[4]};
    for_vector<A, width, 1>(loop, base, begin, [&](int, const A (&in)[4], A (&out)[1]) {
      out[0] = missing ? std::numeric_limits<A>::quiet_NaN()
                       : AbsoluteDifference{}.student_gradient(
                             in[0], label(in[1], in[2]), per_element ? in[3] : shared);
    });
  });
}

// A teacher's row i is in two labels: its own, and that of the row j whose partner it is. The operands are the
// gradient; student i, j; teacher i, j and i's partner; grad i, j.
template <class A>
__global__ void __launch_bounds__(threads, resident_blocks<A>) teacher_gradients(
    const __grid_constant__ Loop<8> loop, const __grid_constant__ Mixing mixing, const int64_t* inverse, Scale scale,
    double factor) {
  const bool per_element = loop.data[6] != nullptr;
  const A shared = static_cast<A>(scale.times(factor));
  for_each_row_vector<teacher_width>(mixing.batch, loop.elements, blockIdx.x, [&](int64_t i, int64_t begin) {
    const int64_t partner = mixing.partner_of(i), source = inverse[i];
    const bool missing = partner < 0 || source < 0;
    const int64_t j = missing ? i : source, k = missing ? i : partner;
    const Mixture<A> label_i = label_of<A>(mixing, i), label_j = label_of<A>(mixing, j);
    const int64_t rows[8] = {i, i, j, i, j, k, i, j};
    int64_t base[8];
#pragma unroll
    for (int n = 0; n < 8; ++n) base[n] = rows[n] * loop.outer[n];
    for_vector<A, teacher_width, 1>(loop, base, begin, [&](int, const A (&in)[7], A (&out)[1]) {
      const auto [s_i, s_j, t_i, t_j, t_k, g_i, g_j] = in;
      const AbsoluteDifference l1;
      const A v_i = l1.student_gradient(s_i, label_i(t_i, t_k), per_element ? g_i : shared);
      const A v_j = l1.student_gradient(s_j, label_j(t_j, t_i), per_element ? g_j : shared);
      const Mixture<A> both = {-label_i.own, -label_j.other};
      out[0] = missing ? std::numeric_limits<A>::quiet_NaN() : both(v_i, v_j);
    });
  });
}

double factor_of(const at::Tensor& student, Reduction reduction) {
  return reduction == Reduction::mean ? 1.0 / static_cast<double>(student.numel()) : 1.0;
}

at::Tensor interpolated_l1(
    const at::Tensor& student, const at::Tensor& teacher, const at::Tensor& lam, const at::Tensor& perm,
    std::string_view reduction_name, std::optional<at::ScalarType> wanted) {
  const Reduction reduction = check_reduction(name, reduction_name);
  check_pair(name, student, teacher);
  check_mixing(name, teacher, lam, perm);
  const at::ScalarType dtype = result_dtype(student, teacher, wanted);
  const c10::cuda::CUDAGuard guard(student.device());

  const bool reduced = reduction != Reduction::none;
  const at::Tensor out = reduced ? at::Tensor() : at::empty_like(student, student.options().dtype(dtype));
  DenseCopies copies;
  const auto loop =
      loop_over<1>({out, student, teacher, teacher}, student.sizes(), dense_strides(student), copies, batch_dim);
  const Mixing mixing = mixing_of(lam, perm);
  const auto kernel = computes_in_double(student, teacher) ? losses<double> : losses<float>;
  const int64_t chunks = row_chunks(mixing.batch, loop.elements, width);
  if (!reduced) {
    launch(kernel, chunks, loop, mixing, SumTarget{}, 1.0, false);
    copies.write_back();
    return out;
  }
  const int64_t summed = std::max<int64_t>(1, chunks);
  const Total total(summed, dtype, student.options());
  launch(kernel, summed, loop, mixing, total.target(), factor_of(student, reduction), true);
  return total.finish();
}

std::vector<at::Tensor> interpolated_l1_backward(
    const at::Tensor& grad, const at::Tensor& student, const at::Tensor& teacher, const at::Tensor& lam,
    const at::Tensor& perm, std::string_view reduction_name, bool student_grad, bool teacher_grad) {
  const Reduction reduction = check_reduction(name, reduction_name);
  check_pair(name, student, teacher);
  check_mixing(name, teacher, lam, perm);
  check_grad(name, grad, student.device(), student.sizes(), reduction);
  const c10::cuda::CUDAGuard guard(student.device());

  const bool wide = computes_in_double(student, teacher), per_element = reduction == Reduction::none;
  const at::Tensor grads_in = per_element ? grad : at::Tensor();
  const Scale scale = scale_of(grad, per_element);
  const double factor = factor_of(student, reduction);
  const Mixing mixing = mixing_of(lam, perm);
  const auto order = dense_strides(student);
  std::vector<at::Tensor> grads;
  DenseCopies copies;
  if (student_grad) {
    const at::Tensor& out = grads.emplace_back(at::empty_like(student));
    const auto loop =
        loop_over<1>({out, student, teacher, teacher, grads_in}, student.sizes(), order, copies, batch_dim);
    launch(
        wide ? student_gradients<double> : student_gradients<float>, row_chunks(mixing.batch, loop.elements, width),
        loop, mixing, scale, factor);
  }
  if (teacher_grad) {
    const at::Tensor& out = grads.emplace_back(at::empty_like(teacher));
    const at::Tensor inverse = inverse_of(perm);
    const auto loop = loop_over<1>(
        {out, student, student, teacher, teacher, teacher, grads_in, grads_in}, student.sizes(), order, copies,
        batch_dim);
    launch(
        wide ? teacher_gradients<double> : teacher_gradients<float>,
        row_chunks(mixing.batch, loop.elements, teacher_width), loop, mixing, inverse.const_data_ptr<int64_t>(), scale,
        factor);
  }
  copies.write_back();
  return grads;
}

TORCH_LIBRARY_IMPL(dfad_fast, CUDA, m) {
  m.impl("interpolated_l1", interpolated_l1);
  m.impl("interpolated_l1_backward", interpolated_l1_backward);
}

}  // namespace
}  // namespace dfad::cuda
