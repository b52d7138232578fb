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
using FewAtOnce = AtOnce<4, 1>;  // so many operands would not fit the registers otherwise

template <class A>
__device__ __forceinline__ Mixture<A> label_of(const Mixing& mixing, int64_t row) {
  const double lam = mixing.lam_of(row);
  return {static_cast<A>(lam), static_cast<A>(1.0 - lam)};
}

// A row's label, unless its partner is missing.
template <class A>
struct Label {
  Mixture<A> mixture;
  bool missing;
};

// The operands are loss, student and, for a row and its partner, teacher; the loop covers one row.
template <class A>
__global__ void __launch_bounds__(threads, resident_blocks<A>) losses(
    const __grid_constant__ Loop<4> loop, const __grid_constant__ Mixing mixing, SumTarget target, double factor,
    bool reduced) {
  const Rows rows = {mixing.batch, loop.elements};
  const auto place = [&](auto way, int64_t k, int64_t (&offsets)[4]) {
    const int64_t row = rows.row_of(k), partner = mixing.partner_of(row);
    const bool missing = partner < 0;
    offsets_in_rows(way, loop, k - row * rows.elements, {row, row, row, missing ? row : partner}, offsets);
    return Label<A>{label_of<A>(mixing, row), missing};
  };
  A sum = 0;
  for_each_tile(rows.all(), blockIdx.x, [&](int64_t begin) {
    for_tile<A, FewAtOnce, 1>(
        loop, rows.all(), begin, place, [&](const Label<A>& label, Element, const A (&in)[3], A (&out)[1]) {
          out[0] = label.missing ? std::numeric_limits<A>::quiet_NaN()
                                 : AbsoluteDifference{}.loss(in[0], label.mixture(in[1], in[2]));
          sum += out[0];
        });
  });
  if (!reduced) return;
  const double total = block_sum(sum);
  target.add(total * factor);
}

// For the student alone. The operands are the gradient, student, teacher, its partner's row, and grad.
template <class A>
__global__ void __launch_bounds__(threads, resident_blocks<A>) student_gradients(
    const __grid_constant__ Loop<5> loop, const __grid_constant__ Mixing mixing, Scale scale, double factor) {
  const bool per_element = loop.data[4] != nullptr;
  const A shared = static_cast<A>(scale.times(factor));
  const Rows rows = {mixing.batch, loop.elements};
  const auto place = [&](auto way, int64_t k, int64_t (&offsets)[5]) {
    const int64_t row = rows.row_of(k), partner = mixing.partner_of(row);
    const bool missing = partner < 0;
    offsets_in_rows(way, loop, k - row * rows.elements, {row, row, row, missing ? row : partner, row}, offsets);
    return Label<A>{label_of<A>(mixing, row), missing};
  };
  for_each_tile(rows.all(), blockIdx.x, [&](int64_t begin) {
    for_tile<A, FewAtOnce, 1>(
        loop, rows.all(), begin, place, [&](const Label<A>& label, Element, const A (&in)[4], A (&out)[1]) {
          out[0] = label.missing ? std::numeric_limits<A>::quiet_NaN()
                                 : AbsoluteDifference{}.student_gradient(
                                       in[0], label.mixture(in[1], in[2]), per_element ? in[3] : shared);
        });
  });
}

// The two labels that a teacher's row is in: its own, and that of the row whose partner it is.
template <class A>
struct Labels {
  Mixture<A> own, theirs;
  bool own_is_missing, theirs_is_missing;
};

// A teacher's row i is in two labels: its own, and that of the row j whose partner it is. The operands are teacher and
// student gradient; student i, j; teacher i, j and i's partner; grad i, j.
template <class A>
__global__ void __launch_bounds__(threads, resident_blocks<A>) gradients(
    const __grid_constant__ Loop<9> loop, const __grid_constant__ Mixing mixing, const int64_t* inverse, Scale scale,
    double factor) {
  const RowSources sources = sources_of(mixing, inverse);
  const bool per_element = loop.data[7] != nullptr;
  const A shared = static_cast<A>(scale.times(factor));
  const Rows rows = {mixing.batch, loop.elements};
  const auto place = [&](auto way, int64_t element, int64_t (&offsets)[9]) {
    const int64_t i = rows.row_of(element), partner = mixing.partner_of(i), source = sources.of(i);
    const int64_t j = source < 0 ? i : source, k = partner < 0 ? i : partner;
    offsets_in_rows(way, loop, element - i * rows.elements, {i, i, i, j, i, j, k, i, j}, offsets);
    return Labels<A>{label_of<A>(mixing, i), label_of<A>(mixing, j), partner < 0, source < 0};
  };
  for_each_tile(rows.all(), blockIdx.x, [&](int64_t begin) {
    for_tile<A, FewAtOnce, 2>(
        loop, rows.all(), begin, place, [&](const Labels<A>& labels, Element, const A (&in)[7], A (&out)[2]) {
          const auto [s_i, s_j, t_i, t_j, t_k, g_i, g_j] = in;
          const AbsoluteDifference l1;
          constexpr A nan = std::numeric_limits<A>::quiet_NaN();
          const A v_i = labels.own_is_missing
                            ? nan
                            : l1.student_gradient(s_i, labels.own(t_i, t_k), per_element ? g_i : shared);
          const A v_j = labels.theirs_is_missing
                            ? nan
                            : l1.student_gradient(s_j, labels.theirs(t_j, t_i), per_element ? g_j : shared);
          const Mixture<A> both = {-labels.own.own, -labels.theirs.other};
          out[0] = both(v_i, v_j);
          out[1] = v_i;
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
  const int64_t chunks = Rows{mixing.batch, loop.elements}.chunks();
  if (!reduced) {
    launch(kernel, chunks, loop, mixing, SumTarget{}, 1.0, false);
    copies.write_back();
    return out;
  }
  const int64_t summed = std::max<int64_t>(1, chunks);
  const Total total(summed, dtype, student.options());
  launch(kernel, summed, loop, mixing, total.target(), factor_of(student, reduction), true);
  return total.out();
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
  if (student_grad) grads.push_back(at::empty_like(student));
  if (teacher_grad) grads.push_back(at::empty_like(teacher));
  DenseCopies copies;
  if (teacher_grad) {
    const at::Tensor inverse = inverse_of(mixing, perm.options());
    const auto loop = loop_over<2>(
        {grads.back(), student_grad ? grads.front() : at::Tensor(), student, student, teacher, teacher, teacher,
         grads_in, grads_in},
        student.sizes(), order, copies, batch_dim);
    launch(
        wide ? gradients<double> : gradients<float>, Rows{mixing.batch, loop.elements}.chunks(), loop, mixing,
        data_of(inverse), scale, factor);
  } else if (student_grad) {
    const auto loop =
        loop_over<1>({grads.front(), student, teacher, teacher, grads_in}, student.sizes(), order, copies, batch_dim);
    launch(
        wide ? student_gradients<double> : student_gradients<float>, Rows{mixing.batch, loop.elements}.chunks(), loop,
        mixing, scale, factor);
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
