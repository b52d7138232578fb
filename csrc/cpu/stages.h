#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/SmallVector.h>

#include <algorithm>

#include "blocks.h"
#include "operand.h"

namespace dfad::cpu {

using Tensors = c10::SmallVector<const at::Tensor*, 5>;

// Tensors of one shape that are looped over together, and their blocks' place in the list of all blocks.
struct Stage {
  // The loop follows the memory order of `like`, or of the nearest dense tensor.
  Stage(const at::Tensor& like, Tensors tensors_, bool wide_, int64_t first_block_)
      : tensors(std::move(tensors_)),
        layout(make_layout(like, tensors)),
        wide(wide_),
        elements(like.numel()),
        first_block(first_block_),
        end_block(first_block_ + blocks_in(elements)) {}

  Shape shape() const { return shape_of(layout); }
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

 private:
  static Layout make_layout(const at::Tensor& like, const Tensors& tensors) {
    c10::SmallVector<at::IntArrayRef, 5> strides;
    for (const at::Tensor* x : tensors) strides.push_back(x->strides());
    return Layout(like.sizes(), dense_strides(like), strides);
  }
};

class Stages {
 public:
  // Computed in double where `wide`, else in float.
  void add(const at::Tensor& like, Tensors tensors, bool wide) {
    list_.emplace_back(like, std::move(tensors), wide, blocks());
    elements_ += list_.back().elements;
  }

  int64_t blocks() const { return list_.empty() ? 0 : list_.back().end_block; }
  const c10::SmallVector<Stage, 2>& list() const { return list_; }

  // Calls body(stage's index, stage, block, compute type's zero) for every block of every stage in one parallel loop.
  template <class Body>
  void for_each_block(const Body& body) const {
    cpu::for_each_block(blocks(), elements_, [&](int64_t block) {
      size_t k = 0;
      while (block >= list_[k].end_block) ++k;
      if (list_[k].wide) {
        body(k, list_[k], block, double{});
      } else {
        body(k, list_[k], block, float{});
      }
    });
  }

 private:
  c10::SmallVector<Stage, 2> list_;
  int64_t elements_ = 0;
};

// One number per block, added in the blocks' order.
class BlockSums {
 public:
  explicit BlockSums(const Stages& stages) : sums_(stages.blocks()) {}

  double& operator[](int64_t block) { return sums_[block]; }

  double of(const Stage& stage) const {
    double sum = 0;
    for (int64_t block = stage.first_block; block < stage.end_block; ++block) sum += sums_[block];
    return sum;
  }

 private:
  c10::SmallVector<double, 64> sums_;
};

}  // namespace dfad::cpu
