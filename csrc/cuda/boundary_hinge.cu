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
  float* agreement;  // the share of elements with student and teacher on the same side; null where not wanted

  // An empty stage has a chunk, too, for its mean to become NaN.
  DFAD_HD int64_t chunks() const { return loop.elements > 0 ? chunks_of(loop.elements) : 1; }
};

constexpr int capacity = 11;
using Stages = Table<Stage, capacity>;

// NaN is on.
template <class A>
__device__ __forceinline__ bool is_on(A x) {
  return !(x <= A(0));
}

// The agreement of each of the launch's stages, from the blocks' numbers of agreeing elements: a warp for a stage.
__device__ __forceinline__ void write_agreement(const Stages& stages, const double* agreeing) {
  for (int k = threadIdx.x / warp; k < stages.count; k += threads / warp) {
    const Stage& stage = stages.items[k];
    double sum = 0;
    for (int64_t block = stages.ends[k] - stage.chunks() + lane_of_warp(); block < stages.ends[k]; block += warp) {
      sum += agreeing[block];
    }
    sum = warp_sum(sum);
    if (lane_of_warp() == 0) *stage.agreement = static_cast<float>(sum / static_cast<double>(stage.loop.elements));
  }
}

// `agreeing` receives, for each block, the number of elements with student and teacher on the same side.
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
    if (threadIdx.x == 0) target.write(total * stage.factor);
  }
  if (agreeing != nullptr) {
    const double total = block_sum(agreed);
    if (threadIdx.x == 0) agreeing[blockIdx.x] = total;
  }
  if (target.counter == nullptr || !is_last_block(target.counter)) return;
  if (reduced) target.finish();
  if (agreeing != nullptr) write_agreement(stages, agreeing);
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
  const at::Tensor shares =
      at::empty({agreement ? static_cast<int64_t>(student.size()) : 0}, options.dtype(at::kFloat));
  std::vector<at::Tensor> signs;
  DenseCopies copies;
  StageLists stages;
  int64_t chunks = 0;
  for (size_t k = 0; k < student.size(); ++k) {
    const at::Tensor& s = student[k];
    const bool packed = is_packed(teacher[k]);
    if (save_signs && !packed) signs.push_back(empty_signs(s));
    Stage stage = {};
    stage.loop = loop_over<1>({out, s, packed ? at::Tensor() : teacher[k]}, s.sizes(), dense_strides(s), copies);
    stage.on = packed ? teacher[k].const_data_ptr<uint8_t>() : nullptr;
    stage.saved = save_signs && !packed ? signs.back().mutable_data_ptr<uint8_t>() : nullptr;
    stage.factor = factor_of(weights[k], s, reduction);
    stage.agreement = agreement ? shares.mutable_data_ptr<float>() + k : nullptr;
    stages.add(stage, is_wide(s, teacher[k]));
    chunks += stage.chunks();
  }

  const std::optional<Total> total = reduced ? std::make_optional<Total>(chunks, dtype, options) : std::nullopt;
  const at::Tensor agreeing = agreement ? at::empty({chunks}, options.dtype(at::kDouble)) : at::Tensor();
  const bool sums_are_counted = reduced && chunks > 1;
  const Counter counter = agreement && !sums_are_counted ? take_counter(options) : Counter();
  int64_t launched = 0;
  stages.for_each_table([&](const Stages& table, int64_t blocks, auto compute) {
    using A = decltype(compute);
    SumTarget target = total ? total->target(launched) : SumTarget{};
    if (agreement && !sums_are_counted) target.counter = counter.data;
    launched += blocks;
    launch(
        losses<A>, blocks, table, BoundaryHinge<A>{static_cast<A>(margin)}, target,
        agreement ? agreeing.mutable_data_ptr<double>() : nullptr, reduced);
  });
  copies.write_back();
  return {total ? total->out() : out, shares, std::move(signs)};
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
      teacher.scalar_type() == at::kDouble ? signs<double> : signs<float>, chunks_of(loop.elements), loop,
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
