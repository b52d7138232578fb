#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include "../checks.h"
#include "../dtypes.h"
#include "blocks.h"
#include "operand.h"
#include "reduce.h"
#include "tiers.h"

namespace dfad::cpu {
namespace {

constexpr const char* name = "kl_discrepancy";

// Rows whose divergences are added to one partial sum.
constexpr int64_t rows_per_block = 32;
// An element costs two or three exponentials, as much as this many of a plain loss.
constexpr int64_t cost_per_element = 8;

// Rows of logits: one per position of the sizes without the class dimension, in their row-major order.
class Rows {
 public:
  explicit Rows(const at::Tensor& logits) : classes_(logits.size(1)), count_(1) {
    for (int64_t d = 0; d < logits.dim(); ++d) {
      if (d == 1) continue;
      dims_.push_back(d);
      sizes_.push_back(logits.size(d));
      count_ *= logits.size(d);
    }
  }

  int64_t count() const { return count_; }
  at::IntArrayRef sizes() const { return sizes_; }
  Shape shape() const { return {1, &classes_}; }

  // A tensor of the logits' shape, at a row.
  Operand operand(const at::Tensor& x, int64_t row) const {
    return operand_of(x, x.strides().data() + 1, offset(row, [&](size_t d) { return x.stride(dims_[d]); }));
  }

  // Element offset in a tensor of the rows' shape.
  int64_t offset_of(const at::Tensor& x, int64_t row) const {
    return offset(row, [&](size_t d) { return x.stride(static_cast<int64_t>(d)); });
  }

  // Calls body(row, its block) for each.
  template <class Body>
  void for_each(const Body& body) const {
    for_each_block(blocks(), count_ * classes_ * cost_per_element, [&](int64_t block) {
      const int64_t end = std::min((block + 1) * rows_per_block, count_);
      for (int64_t row = block * rows_per_block; row < end; ++row) body(row, block);
    });
  }

  // The sum of what body(row) gives, in a fixed order.
  template <class Body>
  double sum(const Body& body) const {
    std::vector<double> sums(blocks());
    for_each([&](int64_t row, int64_t block) { sums[block] += body(row); });
    double total = 0;
    for (const double sum : sums) total += sum;
    return total;
  }

 private:
  int64_t blocks() const { return (count_ + rows_per_block - 1) / rows_per_block; }

  template <class Stride>
  int64_t offset(int64_t row, const Stride& stride) const {
    int64_t offset = 0;
    for (size_t d = sizes_.size(); d-- > 0; row /= sizes_[d]) offset += row % sizes_[d] * stride(d);
    return offset;
  }

  int64_t classes_;
  int64_t count_;
  Dims dims_;
  Dims sizes_;
};

// Statistics [5, rows] as the kernels' struct of one row.
template <class A>
KLStatistics<A> statistics_of(const A* statistics, int64_t rows, int64_t row) {
  const auto at = [&](int64_t i) { return statistics[i * rows + row]; };
  return {at(0), at(1), at(2), at(3), at(4)};
}

template <class Call>
auto in_compute_type(bool wide, const Call& call) {
  return wide ? call(double{}) : call(float{});
}

void write_element(const at::Tensor& out, int64_t position, double value) {
  switch (out.scalar_type()) {
    case at::kDouble: out.mutable_data_ptr<double>()[position] = value; break;
    case at::kHalf: out.mutable_data_ptr<at::Half>()[position] = static_cast<float>(value); break;
    case at::kBFloat16: out.mutable_data_ptr<at::BFloat16>()[position] = static_cast<float>(value); break;
    default: out.mutable_data_ptr<float>()[position] = static_cast<float>(value);
  }
}

void check(const at::Tensor& student, const at::Tensor& teacher, double temperature) {
  check_temperature(name, temperature);
  check_pair(name, student, teacher);
  check_logits(name, student);
}

std::tuple<at::Tensor, at::Tensor> kl_discrepancy(
    const at::Tensor& student, const at::Tensor& teacher, double temperature, std::string_view reduction_name,
    std::optional<at::ScalarType> wanted) {
  const Reduction reduction = check_reduction(name, reduction_name);
  check(student, teacher, temperature);
  const at::ScalarType dtype = result_dtype(student, teacher, wanted);
  const bool wide = computes_in_double(student, teacher);
  const Rows rows(student);
  at::Tensor each;
  if (reduction == Reduction::none) each = at::empty(rows.sizes(), at::TensorOptions().dtype(dtype));
  at::Tensor statistics = at::empty({5, rows.count()}, at::TensorOptions().dtype(wide ? at::kDouble : at::kFloat));
  const Kernels& kernels = active_kernels();
  const double total = in_compute_type(wide, [&](auto zero) {
    using A = decltype(zero);
    A* out = statistics.mutable_data_ptr<A>();
    return rows.sum([&](int64_t row) -> double {
      const KLStatistics<A> found = kernels.of<A>().kl.loss(
          inverse_temperature_of<A>(temperature),
          {rows.shape(), rows.operand(student, row), rows.operand(teacher, row)});
      out[row] = found.student_max;
      out[rows.count() + row] = found.student_log_sum;
      out[2 * rows.count() + row] = found.teacher_max;
      out[3 * rows.count() + row] = found.teacher_log_sum;
      out[4 * rows.count() + row] = found.divergence;
      if (each.defined()) write_element(each, row, found.divergence);
      return found.divergence;
    });
  });
  return {each.defined() ? each : scalar_tensor(reduced(reduction, total, rows.count()), dtype), statistics};
}

std::vector<at::Tensor> kl_discrepancy_backward(
    const at::Tensor& grad, const at::Tensor& student, const at::Tensor& teacher, const at::Tensor& statistics,
    double temperature, std::string_view reduction_name, bool student_grad, bool teacher_grad) {
  const Reduction reduction = check_reduction(name, reduction_name);
  check(student, teacher, temperature);
  const Rows rows(student);
  const bool wide = computes_in_double(student, teacher);
  check_grad(name, grad, student.device(), rows.sizes(), reduction);
  check_statistics(name, statistics, student.device(), rows.count(), wide ? at::kDouble : at::kFloat);
  std::vector<at::Tensor> grads;
  if (student_grad) grads.push_back(at::empty_like(student));
  if (teacher_grad) grads.push_back(at::empty_like(teacher));
  if (grads.empty()) return grads;

  const double scale = gradient_scale(reduction, grad, rows.count());
  const Kernels& kernels = active_kernels();
  in_compute_type(wide, [&](auto zero) {
    using A = decltype(zero);
    const A* found = statistics.const_data_ptr<A>();
    rows.for_each([&](int64_t row, int64_t) {
      const double incoming = reduction == Reduction::none ? read_scalar(grad, rows.offset_of(grad, row)) : scale;
      kernels.of<A>().kl.gradient(
          inverse_temperature_of<A>(temperature),
          {rows.shape(), rows.operand(student, row), rows.operand(teacher, row)},
          statistics_of(found, rows.count(), row), static_cast<A>(incoming),
          student_grad ? rows.operand(grads.front(), row) : Operand{},
          teacher_grad ? rows.operand(grads.back(), row) : Operand{});
    });
  });
  return grads;
}

TORCH_LIBRARY_IMPL(dfad_fast, CPU, m) {
  m.impl("kl_discrepancy", kl_discrepancy);
  m.impl("kl_discrepancy_backward", kl_discrepancy_backward);
}

}  // namespace
}  // namespace dfad::cpu
