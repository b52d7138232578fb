#include <ATen/ops/empty_like.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/util/strides.h>
#include <torch/library.h>

#include <cmath>
#include <optional>

#include "../arithmetic/kl_divergence.h"
#include "../checks.h"
#include "../dtypes.h"
#include "logits.cuh"
#include "operands.h"
#include "reduce.cuh"
#include "row_statistics.cuh"
#include "scale.cuh"

namespace dfad::cuda {
namespace {

constexpr const char* name = "kl_discrepancy";
constexpr int64_t class_dim = 1;

// The operands are loss, student and teacher; the loop is over rows, and leaves out the classes.
template <class A, class S>
__global__ void __launch_bounds__(threads, 2) divergences(
    const __grid_constant__ Loop<3> rows, int64_t classes, A inverse_temperature, A* statistics, SumTarget target,
    double factor, bool reduced) {
  const int64_t row = int64_t{blockIdx.x} * rows_of_block<S> + threadIdx.x / S::lanes;
  const bool exists = row < rows.elements;
  const int64_t present = exists ? classes : 0;  // the lanes of a row that is not there still meet the others
  int64_t offsets[3] = {};
  if (exists) offsets_of(rows, row, offsets);

  const Logits<A, S> student(rows, 1, offsets, present, inverse_temperature);
  const Logits<A, S> teacher(rows, 2, offsets, present, inverse_temperature);
  const Normalizer<A> q = normalizer_of(student, present);
  const Normalizer<A> p = normalizer_of(teacher, present);
  A divergence = 0;
  for_each_class<S>(present, [&](int64_t c, int k) {
    const A log_p = p.log_probability(teacher.at(c, k));
    divergence += KLDivergence{}.loss(std::exp(log_p), log_p, q.log_probability(student.at(c, k)));
  });
  divergence = across_lanes<S::lanes>(divergence, [](A a, A b) { return a + b; });

  const bool writes = exists && threadIdx.x % S::lanes == 0;
  const RowStatistics<A, S> of_row = {rows.elements, row, {q.maximum, q.logarithm, p.maximum, p.logarithm, divergence}};
  if (writes) {
    of_row.store(statistics);
    if (rows.data[0] != nullptr) store_one(rows.data[0], rows.dtypes[0], offsets[0], divergence);
  }
  of_row.leave(statistics);
  if (!reduced) return;
  const double total = block_sum(writes ? divergence : A(0));
  target.add(total * factor);
}

// The operands are student and teacher gradient, student, teacher and grad. Where a lane has a single class, a
// multiprocessor can hold 8 blocks of 32 registers.
template <class A, class S>
__global__ void __launch_bounds__(threads, S::kept == 1 ? 8 : 2) gradients(
    const __grid_constant__ Loop<5> rows, int64_t classes, A inverse_temperature, const A* statistics, Scale scale,
    double factor) {
  const int64_t row = int64_t{blockIdx.x} * rows_of_block<S> + threadIdx.x / S::lanes;
  const bool exists = row < rows.elements;
  if (!RowStatistics<A, S>::shared && !exists) return;
  const int64_t present = exists ? classes : 0;  // the lanes of a row that is not there may still move statistics
  int64_t offsets[5] = {};
  if (exists) offsets_of(rows, row, offsets);

  RowStatistics<A, S> of_row = {rows.elements, row, {}};
  of_row.load(statistics);
  const double incoming = rows.data[4] != nullptr ? load_one<double>(rows.data[4], rows.dtypes[4], offsets[4])
                                                  : scale.times(factor);
  const A grad = static_cast<A>(incoming) * inverse_temperature;
  const Logits<A, S> student(rows, 2, offsets, present, inverse_temperature);
  const Logits<A, S> teacher(rows, 3, offsets, present, inverse_temperature);
  of_row.arrive();
  if (!exists) return;
  const Normalizer<A> q = {of_row.values[0], of_row.values[1]}, p = {of_row.values[2], of_row.values[3]};
  const A divergence = of_row.values[4];

  for_each_class<S>(classes, [&](int64_t c, int k) {
    const A log_q = q.log_probability(student.at(c, k)), log_p = p.log_probability(teacher.at(c, k));
    const A probability = std::exp(log_p);
    if (rows.data[0] != nullptr) {
      const A slope = KLDivergence{}.student_gradient(probability, std::exp(log_q), grad);
      store_one(rows.data[0], rows.dtypes[0], offsets[0] + c * rows.outer[0], slope);
    }
    if (rows.data[1] != nullptr) {
      const A slope = KLDivergence{}.teacher_gradient(probability, log_p, log_q, divergence, grad);
      store_one(rows.data[1], rows.dtypes[1], offsets[1] + c * rows.outer[1], slope);
    }
  });
}

std::vector<int64_t> row_shape(const at::Tensor& student) {
  std::vector<int64_t> shape = student.sizes().vec();
  shape.erase(shape.begin() + class_dim);
  return shape;
}

double factor_of(int64_t rows, Reduction reduction) {
  return reduction == Reduction::mean ? 1.0 / static_cast<double>(rows) : 1.0;
}

bool classes_are_neighbors(const at::Tensor& student) {
  return student.stride(class_dim) == 1;
}

// Returns the loss where it is reduced.
template <class A>
at::Tensor launch_forward(
    const Loop<3>& rows, const at::Tensor& student, double temperature, const at::Tensor& statistics,
    Reduction reduction, at::ScalarType dtype) {
  std::optional<Total> total;
  with_sharing<A>(classes_are_neighbors(student), student.size(class_dim), [&](auto sharing) {
    using S = decltype(sharing);
    int64_t blocks = S::blocks(rows.elements);
    if (reduction != Reduction::none) {
      blocks = std::max<int64_t>(blocks, 1);  // without rows, still one: it writes the sum, 0
      total.emplace(blocks, dtype, student.options());
    }
    launch(
        divergences<A, S>, blocks, rows, student.size(class_dim), inverse_temperature_of<A>(temperature),
        statistics.mutable_data_ptr<A>(), total ? total->target() : SumTarget{}, factor_of(rows.elements, reduction),
        total.has_value());
  });
  return total ? total->out() : at::Tensor();
}

std::tuple<at::Tensor, at::Tensor> kl_discrepancy(
    const at::Tensor& student, const at::Tensor& teacher, double temperature, std::string_view reduction_name,
    std::optional<at::ScalarType> wanted) {
  const Reduction reduction = check_reduction(name, reduction_name);
  check_temperature(name, temperature);
  check_pair(name, student, teacher);
  check_logits(name, student);
  const at::ScalarType dtype = result_dtype(student, teacher, wanted);
  const c10::cuda::CUDAGuard guard(student.device());

  const bool wide = computes_in_double(student, teacher), reduced = reduction != Reduction::none;
  const at::Tensor out = reduced ? at::Tensor() : at::empty(row_shape(student), student.options().dtype(dtype));
  DenseCopies copies;
  const auto rows = loop_as_they_lie<1>(
      {reduced ? at::Tensor() : out.unsqueeze(class_dim), student,
       copies.input_along(teacher, dense_strides(student))},
      student.sizes(), c10::contiguous_strides(student.sizes()), copies, class_dim);
  const at::Tensor statistics =
      at::empty({statistics_of_row, rows.elements}, student.options().dtype(wide ? at::kDouble : at::kFloat));
  const auto launch_compute = wide ? launch_forward<double> : launch_forward<float>;
  const at::Tensor total = launch_compute(rows, student, temperature, statistics, reduction, dtype);
  copies.write_back();
  return {reduced ? total : out, statistics};
}

template <class A>
void launch_backward(
    const Loop<5>& rows, const at::Tensor& student, double temperature, const at::Tensor& statistics,
    const Scale& scale, double factor) {
  with_sharing<A>(classes_are_neighbors(student), student.size(class_dim), [&](auto sharing) {
    using S = decltype(sharing);
    launch(
        gradients<A, S>, S::blocks(rows.elements), rows, student.size(class_dim),
        inverse_temperature_of<A>(temperature), statistics.const_data_ptr<A>(), scale, factor);
  });
}

std::vector<at::Tensor> kl_discrepancy_backward(
    const at::Tensor& grad, const at::Tensor& student, const at::Tensor& teacher, const at::Tensor& statistics,
    double temperature, std::string_view reduction_name, bool student_grad, bool teacher_grad) {
  const Reduction reduction = check_reduction(name, reduction_name);
  check_temperature(name, temperature);
  check_pair(name, student, teacher);
  check_logits(name, student);
  check_grad(name, grad, student.device(), row_shape(student), reduction);
  check_statistics(
      name, statistics, student.device(), c10::multiply_integers(row_shape(student)),
      computes_in_double(student, teacher) ? at::kDouble : at::kFloat);
  const c10::cuda::CUDAGuard guard(student.device());

  const bool per_row = reduction == Reduction::none;
  const at::Tensor to_student = student_grad ? at::empty_like(student) : at::Tensor();
  const at::Tensor to_teacher = teacher_grad ? at::empty_like(teacher) : at::Tensor();
  DenseCopies copies;
  const Dims order = dense_strides(student);
  const auto rows = loop_as_they_lie<2>(
      {to_student, teacher_grad ? copies.output_along(to_teacher, order) : at::Tensor(), student,
       copies.input_along(teacher, order), per_row ? grad.unsqueeze(class_dim) : at::Tensor()},
      student.sizes(), c10::contiguous_strides(student.sizes()), copies, class_dim);
  const auto launch_compute = computes_in_double(student, teacher) ? launch_backward<double> : launch_backward<float>;
  launch_compute(
      rows, student, temperature, statistics, scale_of(grad, per_row),
      factor_of(rows.elements, reduction));
  copies.write_back();

  std::vector<at::Tensor> grads;
  if (student_grad) grads.push_back(to_student);
  if (teacher_grad) grads.push_back(to_teacher);
  return grads;
}

TORCH_LIBRARY_IMPL(dfad_fast, CUDA, m) {
  m.impl("kl_discrepancy", kl_discrepancy);
  m.impl("kl_discrepancy_backward", kl_discrepancy_backward);
}

}  // namespace
}  // namespace dfad::cuda
