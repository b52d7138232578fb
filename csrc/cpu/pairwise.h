#pragma once

// What every loss over student/teacher pairs shares on the CPU. A Term holds an op's parameters and gives its functor
// for a compute type: term.template functor<A>().

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty_like.h>
#include <c10/util/SmallVector.h>

#include <algorithm>
#include <vector>

#include "../dtypes.h"
#include "../reduction.h"
#include "blocks.h"
#include "layout.h"
#include "scalar.h"
#include "tiers.h"

namespace dfad::cpu {

using Tensors = c10::SmallVector<const at::Tensor*, 5>;

// One pair with the tensors that go with it, and its blocks' place in the list of all blocks.
struct Stage {
  Stage(Tensors tensors_, bool wide_, int64_t first_block_)
      : tensors(std::move(tensors_)),
        layout(tensors),
        wide(wide_),
        elements(tensors[0]->numel()),
        first_block(first_block_),
        end_block(first_block_ + blocks_in(elements)) {}

  Operand operand(size_t i) const { return operand_of(*tensors[i], layout.strides(i)); }

  Range range(int64_t block) const {
    const int64_t begin = (block - first_block) * block_size;
    return {begin, std::min(begin + block_size, elements)};
  }

  Tensors tensors;
  Layout layout;
  bool wide;
  int64_t elements;
  int64_t first_block;
  int64_t end_block;
};

class Stages {
 public:
  void add(Tensors tensors, bool wide) {
    list_.emplace_back(std::move(tensors), wide, blocks());
    elements_ += list_.back().elements;
  }

  int64_t blocks() const { return list_.empty() ? 0 : list_.back().end_block; }

  // Calls body(stage index, stage, block) for every block of every stage, all in one parallel loop.
  template <class Body>
  void for_each_block(const Body& body) const {
    cpu::for_each_block(blocks(), elements_, [&](int64_t block) {
      size_t k = 0;
      while (block >= list_[k].end_block) ++k;
      body(k, list_[k], block);
    });
  }

  const c10::SmallVector<Stage, 2>& list() const { return list_; }

 private:
  c10::SmallVector<Stage, 2> list_;
  int64_t elements_ = 0;
};

template <class Term, class Call>
auto with_functor(const Term& term, bool wide, const Call& call) {
  return wide ? call(term.template functor<double>()) : call(term.template functor<float>());
}

// sum over stages of weight * (sum or mean over the stage's elements)
template <class Term>
double reduced_loss(
    const Term& term, at::TensorList student, at::TensorList teacher, at::ArrayRef<double> weights,
    Reduction reduction) {
  Stages stages;
  for (size_t k = 0; k < student.size(); ++k) {
    stages.add({&student[k], &teacher[k]}, computes_in_double(student[k], teacher[k]));
  }
  c10::SmallVector<double, 64> partial(stages.blocks());
  const Kernels& kernels = active_kernels();
  stages.for_each_block([&](size_t, const Stage& stage, int64_t block) {
    const PairOperands pair = {stage.layout.shape(), stage.operand(0), stage.operand(1)};
    partial[block] = with_functor(term, stage.wide, [&](const auto& functor) {
      return kernels_for(kernels, functor).sum(functor, pair, stage.range(block));
    });
  });
  double total = 0;
  for (size_t k = 0; k < student.size(); ++k) {
    const Stage& stage = stages.list()[k];
    double sum = 0;
    for (int64_t block = stage.first_block; block < stage.end_block; ++block) sum += partial[block];
    total += weights[k] * (reduction == Reduction::mean ? sum / static_cast<double>(stage.elements) : sum);
  }
  return total;
}

template <class Term>
at::Tensor elementwise_loss(
    const Term& term, const at::Tensor& student, const at::Tensor& teacher, at::ScalarType dtype) {
  at::Tensor out = at::empty_like(student, student.options().dtype(dtype));
  Stages stages;
  stages.add({&out, &student, &teacher}, computes_in_double(student, teacher));
  const Kernels& kernels = active_kernels();
  stages.for_each_block([&](size_t, const Stage& stage, int64_t block) {
    const PairOperands pair = {stage.layout.shape(), stage.operand(1), stage.operand(2)};
    with_functor(term, stage.wide, [&](const auto& functor) {
      kernels_for(kernels, functor).map(functor, pair, stage.operand(0), stage.range(block));
    });
  });
  return out;
}

// `grad` is the loss's gradient: one per element for `none`, else a scalar.
template <class Term>
struct PairGradient {
  const Term& term;
  const at::Tensor& grad;
  at::TensorList student;
  at::TensorList teacher;
  at::ArrayRef<double> weights;
  Reduction reduction;
  bool student_grad = true;
  bool teacher_grad = false;

  // The wanted gradients: all of the students', then all of the teachers'.
  std::vector<at::Tensor> operator()() const {
    std::vector<at::Tensor> grads;
    if (student_grad) {
      for (const at::Tensor& s : student) grads.push_back(at::empty_like(s));
    }
    if (teacher_grad) {
      for (const at::Tensor& t : teacher) grads.push_back(at::empty_like(t));
    }
    const bool per_element = reduction == Reduction::none;
    const size_t outputs = size_t{student_grad} + size_t{teacher_grad};
    Stages stages;
    c10::SmallVector<double, 4> scales;
    for (size_t k = 0; k < student.size(); ++k) {
      // Outputs first: they are dense, so the loop follows the order of memory even where an input is expanded.
      Tensors tensors = {&grads[k]};
      if (outputs == 2) tensors.push_back(&grads[student.size() + k]);
      tensors.append({&student[k], &teacher[k]});
      if (per_element) tensors.push_back(&grad);
      stages.add(std::move(tensors), computes_in_double(student[k], teacher[k]));
      scales.push_back(per_element ? 1.0 : scale(k));
    }
    const Kernels& kernels = active_kernels();
    stages.for_each_block([&](size_t k, const Stage& stage, int64_t block) {
      const PairOperands pair = {stage.layout.shape(), stage.operand(outputs), stage.operand(outputs + 1)};
      const GradientOperands gradients = {
          per_element ? stage.operand(outputs + 2) : Operand{},
          scales[k],
          student_grad ? stage.operand(0) : Operand{},
          teacher_grad ? stage.operand(outputs - 1) : Operand{},
      };
      with_functor(term, stage.wide, [&](const auto& functor) {
        kernels_for(kernels, functor).gradient(functor, pair, gradients, stage.range(block));
      });
    });
    return grads;
  }

  double scale(size_t k) const {
    const double weighted = read_scalar(grad) * weights[k];
    return reduction == Reduction::mean ? weighted / static_cast<double>(student[k].numel()) : weighted;
  }
};

}  // namespace dfad::cpu
