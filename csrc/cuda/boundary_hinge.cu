#include <ATen/ops/empty_like.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include "../arithmetic/boundary_hinge.h"
#include "../checks.h"
#include "../dtypes.h"
#include "pairwise.cuh"
#include "reduce.cuh"
#include "table.h"

namespace dfad::cuda {
namespace {

constexpr const char* name = "boundary_hinge_loss";

// Forward, the loop's operands are loss, student, teacher; backward, student gradient, student, grad. The teacher is
// `on`, one bit per element, where the loop has none.
struct Stage {
  Loop<3> loop;
  const uint8_t* on;
  uint8_t* saved;
  double factor;
  int64_t first_chunk;  // among the chunks of all stages

  // An empty stage has a chunk, too, for its mean to become NaN.
  int64_t chunks() const { return std::max<int64_t>(1, ceil_div(loop.elements, chunk_size)); }
};

constexpr int capacity = 11;
using Stages = Table<Stage, capacity>;

// NaN is on.
template <class A>
__device__ __forceinline__ bool is_on(A x) {
  return !(x <= A(0));
}

// `agreeing` receives, for each chunk, the number of elements with student and teacher on the same side.
template <class A>
__global__ void __launch_bounds__(threads, resident_blocks<A>) losses(
    const __grid_constant__ Stages stages, BoundaryHinge<A> hinge, SumTarget target, double* agreeing, bool reduced) {
  int64_t chunk;
  const Stage& stage = stages.find(blockIdx.x, chunk);
  const bool packed = stage.on != nullptr;
  A sum = 0;
  int agreed = 0;
  for_each_tile(stage.loop.elements, chunk, [&](int64_t begin) {
    const unsigned given = packed ? load_bits<A>(stage.on, stage.loop, begin) : 0u;
    unsigned bits = 0;
    for_tile<A, 1>(stage.loop, begin, [&](Element element, const A (&in)[2], A (&out)[1]) {
      const bool on = packed ? (given >> element.own & 1u) != 0 : is_on(in[1]);
      out[0] = hinge.loss(in[0], !on);
      sum += out[0];
      agreed += is_on(in[0]) == on;
      bits |= unsigned{on} << element.own;
    });
    if (stage.saved != nullptr) store_bits<A>(stage.saved, stage.loop, begin, bits);
  });
  if (reduced) {
    const double total = block_sum(sum);
    if (threadIdx.x == 0) target.write(stage.first_chunk + chunk, total * stage.factor);
  }
  if (agreeing != nullptr) {
    const double total = block_sum(agreed);
    if (threadIdx.x == 0) agreeing[stage.first_chunk + chunk] = total;
  }
}

template <class A>
__global__ void __launch_bounds__(threads, resident_blocks<A>)
    gradients(const __grid_constant__ Stages stages, BoundaryHinge<A> hinge, Scale scale) {
  int64_t chunk;
  const Stage& stage = stages.find(blockIdx.x, chunk);
  const bool per_element = stage.loop.data[2] != nullptr;
  const A shared = static_cast<A>(scale.times(stage.factor));
  for_each_tile(stage.loop.elements, chunk, [&](int64_t begin) {
    const unsigned given = load_bits<A>(stage.on, stage.loop, begin);
    for_tile<A, 1>(stage.loop, begin, [&](Element element, const A (&in)[2], A (&out)[1]) {
      const bool off = (given >> element.own & 1u) == 0;
      out[0] = hinge.student_gradient(in[0], off, per_element ? in[1] : shared);
    });
  });
}

template <class A>
__global__ void __launch_bounds__(threads, resident_blocks<A>)
    signs(const __grid_constant__ Loop<2> loop, uint8_t* packed) {
  for_each_tile(loop.elements, blockIdx.x, [&](int64_t begin) {
    unsigned bits = 0;
    for_tile<A, 1>(loop, begin, [&](Element element, const A (&in)[1], A (&)[1]) {
      bits |= unsigned{is_on(in[0])} << element.own;
    });
    store_bits<A>(packed, loop, begin, bits);
  });
}

bool is_packed(const at::Tensor& teacher) {
  return teacher.scalar_type() == at::kByte;
}

bool is_wide(const at::Tensor& student, const at::Tensor& teacher) {
  return student.scalar_type() == at::kDouble || (!is_packed(teacher) && teacher.scalar_type() == at::kDouble);
}

at::Tensor empty_signs(const at::Tensor& x) {
  return at::empty({ceil_div(x.numel(), 8)}, x.options().dtype(at::kByte));
}

double factor_of(double weight, const at::Tensor& student, Reduction reduction) {
  return reduction == Reduction::mean ? weight / static_cast<double>(student.numel()) : weight;
}

// Stages by compute type: each type has its launches.
struct StageLists {
  c10::SmallVector<Stage, 4> single;
  c10::SmallVector<Stage, 1> wide;

  void add(const Stage& stage, bool in_double) {
    if (in_double) {
      wide.push_back(stage);
    } else {
      single.push_back(stage);
    }
  }

  template <class Launch>
  void for_each_table(const Launch& launch_table) const {
    cuda::for_each_table<capacity>(single, [&](const Stages& table, int64_t blocks) { launch_table(table, blocks, float{}); });
    cuda::for_each_table<capacity>(wide, [&](const Stages& table, int64_t blocks) { launch_table(table, blocks, double{}); });
  }
};

// The share of each stage's elements on which student and teacher agree.
at::Tensor shares(const at::Tensor& agreeing, at::TensorList student, c10::ArrayRef<int64_t> first_chunks) {
  at::Tensor out = at::empty({static_cast<int64_t>(student.size())}, agreeing.options().dtype(at::kFloat));
  for (size_t first = 0; first < student.size(); first += Segments::capacity) {
    const size_t count = std::min<size_t>(Segments::capacity, student.size() - first);
    Segments stages = {};
    stages.begins[0] = first_chunks[first];
    for (size_t k = 0; k < count; ++k) {
      stages.begins[k + 1] = first_chunks[first + k + 1];
      stages.scales[k] = 1.0 / static_cast<double>(student[first + k].numel());
    }
    launch(
        sum_segments, static_cast<int64_t>(count), agreeing.const_data_ptr<double>(), stages, out.mutable_data_ptr(),
        at::kFloat, static_cast<int64_t>(first));
  }
  return out;
}

std::tuple<at::Tensor, at::Tensor, std::vector<at::Tensor>> boundary_hinge_loss(
    at::TensorList student, at::TensorList teacher, at::ArrayRef<double> weights, double margin,
    std::string_view reduction_name, bool agreement, bool save_signs, std::optional<at::ScalarType> wanted) {
  const Reduction reduction = check_reduction(name, reduction_name);
  check_margin(name, margin);
  check_stages(name, student, teacher, weights, reduction);
  const at::ScalarType dtype = result_dtype(student, teacher, wanted);
  const c10::cuda::CUDAGuard guard(student[0].device());
  const at::TensorOptions options = student[0].options();

  const bool reduced = reduction != Reduction::none;
  const at::Tensor out = reduced ? at::Tensor() : at::empty_like(student[0], options.dtype(dtype));
  std::vector<at::Tensor> signs;
  DenseCopies copies;
  StageLists stages;
  c10::SmallVector<int64_t, 5> first_chunks = {0};
  for (size_t k = 0; k < student.size(); ++k) {
    const at::Tensor& s = student[k];
    const bool packed = is_packed(teacher[k]);
    if (save_signs && !packed) signs.push_back(empty_signs(s));
    Stage stage = {};
    stage.loop = loop_over<1>({out, s, packed ? at::Tensor() : teacher[k]}, s.sizes(), dense_strides(s), copies);
    stage.on = packed ? teacher[k].const_data_ptr<uint8_t>() : nullptr;
    stage.saved = save_signs && !packed ? signs.back().mutable_data_ptr<uint8_t>() : nullptr;
    stage.factor = factor_of(weights[k], s, reduction);
    stage.first_chunk = first_chunks.back();
    first_chunks.push_back(stage.first_chunk + stage.chunks());
    stages.add(stage, is_wide(s, teacher[k]));
  }

  const int64_t chunks = first_chunks.back();
  const std::optional<Total> total = reduced ? std::make_optional<Total>(chunks, dtype, options) : std::nullopt;
  const at::Tensor agreeing = agreement ? at::empty({chunks}, options.dtype(at::kDouble)) : at::Tensor();
  stages.for_each_table([&](const Stages& table, int64_t blocks, auto compute) {
    using A = decltype(compute);
    launch(
        losses<A>, blocks, table, BoundaryHinge<A>{static_cast<A>(margin)}, total ? total->target() : SumTarget{},
        agreement ? agreeing.mutable_data_ptr<double>() : nullptr, reduced);
  });
  copies.write_back();
  return {
      total ? total->finish() : out,
      agreement ? shares(agreeing, student, first_chunks) : at::empty({0}, options.dtype(at::kFloat)),
      std::move(signs),
  };
}

std::vector<at::Tensor> boundary_hinge_loss_backward(
    const at::Tensor& grad, at::TensorList student, at::TensorList signs, at::ArrayRef<double> weights, double margin,
    std::string_view reduction_name) {
  const Reduction reduction = check_reduction(name, reduction_name);
  check_margin(name, margin);
  for (const at::Tensor& bits : signs) {
    TORCH_CHECK_TYPE(
        is_packed(bits), name, ": signs must be packed signs (uint8), got ",
        c10::getDtypeNames(bits.scalar_type()).first);
  }
  check_stages(name, student, signs, weights, reduction);
  check_grad(name, grad, student[0].device(), student[0].sizes(), reduction);
  const c10::cuda::CUDAGuard guard(student[0].device());

  const bool per_element = reduction == Reduction::none;
  std::vector<at::Tensor> grads;
  DenseCopies copies;
  StageLists stages;
  for (size_t k = 0; k < student.size(); ++k) {
    const at::Tensor& s = student[k];
    grads.push_back(at::empty_like(s));
    Stage stage = {};
    stage.loop = loop_over<1>({grads[k], s, per_element ? grad : at::Tensor()}, s.sizes(), dense_strides(s), copies);
    stage.on = signs[k].const_data_ptr<uint8_t>();
    stage.factor = per_element ? 1.0 : factor_of(weights[k], s, reduction);
    stages.add(stage, s.scalar_type() == at::kDouble);
  }
  stages.for_each_table([&](const Stages& table, int64_t blocks, auto compute) {
    using A = decltype(compute);
    launch(
        gradients<A>, blocks, table, BoundaryHinge<A>{static_cast<A>(margin)}, scale_of(grad, per_element));
  });
  copies.write_back();
  return grads;
}

at::Tensor pack_signs(const at::Tensor& teacher) {
  check_floating("pack_signs", "teacher", "", teacher);
  const c10::cuda::CUDAGuard guard(teacher.device());
  at::Tensor packed = empty_signs(teacher);
  DenseCopies copies;
  const auto loop = loop_over<1>({at::Tensor(), teacher}, teacher.sizes(), dense_strides(teacher), copies);
  launch(
      teacher.scalar_type() == at::kDouble ? signs<double> : signs<float>, ceil_div(loop.elements, chunk_size), loop,
      packed.mutable_data_ptr<uint8_t>());
  return packed;
}

TORCH_LIBRARY_IMPL(dfad_fast, CUDA, m) {
  m.impl("boundary_hinge_loss", boundary_hinge_loss);
  m.impl("boundary_hinge_loss_backward", boundary_hinge_loss_backward);
  m.impl("pack_signs", pack_signs);
}

}  // namespace
}  // namespace dfad::cuda
