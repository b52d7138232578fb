#pragma once

// The torch-free boundary: what an instruction-set tier computes, on a range of elements, for its callers.

#include <cstdint>

#include "../arithmetic/absolute_difference.h"
#include "../arithmetic/boundary_hinge.h"
#include "../arithmetic/mixture.h"

namespace dfad::cpu {

enum class Dtype : std::uint8_t { f64, f32, f16, bf16 };

// Sizes of the loop over elements, outermost dimension first; at least one dimension.
struct Shape {
  std::int64_t dims;
  const std::int64_t* sizes;
};

// A tensor in that loop; strides in elements. Without data, an operand that is not there.
struct Operand {
  void* data = nullptr;
  const std::int64_t* strides = nullptr;
  Dtype dtype = Dtype::f32;
};

// Elements [begin, end) in the loop's order.
struct Range {
  std::int64_t begin;
  std::int64_t end;
};

struct PairOperands {
  Shape shape;
  Operand student;
  Operand teacher;
};

// Where the gradients go, and the incoming one: `grad` per element, or the same `scale` for all without it.
struct GradientOperands {
  Operand grad;
  double scale;
  Operand student_grad;
  Operand teacher_grad;
};

template <class F>
struct PairKernels {
  double (*sum)(const F&, const PairOperands&, Range);
  void (*map)(const F&, const PairOperands&, const Operand& out, Range);
  void (*gradient)(const F&, const PairOperands&, const GradientOperands&, Range);
};

template <class F>
struct MixKernel {
  void (*mix)(const F&, const Shape&, const Operand& x, const Operand& y, const Operand& out, Range);
};

struct Kernels {
  PairKernels<BoundaryHinge<float>> hinge;
  PairKernels<BoundaryHinge<double>> hinge_f64;
  PairKernels<AbsoluteDifference<float>> l1;
  PairKernels<AbsoluteDifference<double>> l1_f64;
  MixKernel<Mixture<float>> mix;
  MixKernel<Mixture<double>> mix_f64;
};

inline const auto& kernels_for(const Kernels& k, const BoundaryHinge<float>&) { return k.hinge; }
inline const auto& kernels_for(const Kernels& k, const BoundaryHinge<double>&) { return k.hinge_f64; }
inline const auto& kernels_for(const Kernels& k, const AbsoluteDifference<float>&) { return k.l1; }
inline const auto& kernels_for(const Kernels& k, const AbsoluteDifference<double>&) { return k.l1_f64; }
inline const auto& kernels_for(const Kernels& k, const Mixture<float>&) { return k.mix; }
inline const auto& kernels_for(const Kernels& k, const Mixture<double>&) { return k.mix_f64; }

namespace base {
extern const Kernels kernels;
}
namespace avx2 {
extern const Kernels kernels;
}
namespace avx512 {
extern const Kernels kernels;
}

}  // namespace dfad::cpu
