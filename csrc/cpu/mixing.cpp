#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include "../checks.h"
#include "blocks.h"
#include "layout.h"
#include "scalar.h"
#include "tiers.h"

namespace dfad::cpu {
namespace {

constexpr const char* name = "mixup";

// out[i] = own[i] * x[i] + other[i] * x[partner[i]]
struct Mixing {
  std::vector<double> own;
  std::vector<double> other;
  std::vector<int64_t> partner;
};

// One tensor of the batch and its mixture; the loop covers one sample.
struct MixedTensor {
  MixedTensor(const at::Tensor& x_, at::Tensor& out_)
      : x(x_),
        out(out_),
        layout({&out_, &x_}, 1),
        sample_elements(x_.size(0) == 0 ? 0 : x_.numel() / x_.size(0)) {}

  Operand sample(const at::Tensor& tensor, size_t i, int64_t index) const {
    Operand operand = operand_of(tensor, layout.strides(i));
    operand.data = static_cast<char*>(operand.data) + index * tensor.stride(0) * tensor.element_size();
    return operand;
  }

  template <class A>
  void mix_block(const Mixing& mixing, int64_t i, Range range) const {
    const Mixture<A> functor = {static_cast<A>(mixing.own[i]), static_cast<A>(mixing.other[i])};
    kernels_for(active_kernels(), functor)
        .mix(functor, layout.shape(), sample(x, 1, i), sample(x, 1, mixing.partner[i]), sample(out, 0, i), range);
  }

  void mix(const Mixing& mixing, int64_t i, int64_t block) const {
    const int64_t begin = block * block_size;
    const Range range = {begin, std::min(begin + block_size, sample_elements)};
    if (begin >= sample_elements) return;
    if (x.scalar_type() == at::kDouble) {
      mix_block<double>(mixing, i, range);
    } else {
      mix_block<float>(mixing, i, range);
    }
  }

  const at::Tensor& x;
  const at::Tensor& out;
  Layout layout;
  int64_t sample_elements;
};

std::vector<double> lam_values(const at::Tensor& lam, int64_t batch) {
  std::vector<double> values(batch);
  for (int64_t i = 0; i < batch; ++i) values[i] = read_scalar(lam, lam.dim() == 0 ? 0 : i * lam.stride(0));
  return values;
}

std::vector<at::Tensor> mix_all(at::TensorList tensors, const Mixing& mixing) {
  std::vector<at::Tensor> outs;
  outs.reserve(tensors.size());
  c10::SmallVector<MixedTensor, 2> mixed;
  int64_t elements = 0, sample_blocks = 0;
  for (const at::Tensor& x : tensors) {
    outs.push_back(at::empty_like(x));
    mixed.emplace_back(x, outs.back());
    elements += x.numel();
    sample_blocks = std::max(sample_blocks, blocks_in(mixed.back().sample_elements));
  }
  // A work item covers a sample's part of every tensor, so that threads share large and small tensors evenly.
  const int64_t batch = static_cast<int64_t>(mixing.own.size());
  for_each_block(batch * sample_blocks, elements, [&](int64_t item) {
    for (const MixedTensor& tensor : mixed) tensor.mix(mixing, item / sample_blocks, item % sample_blocks);
  });
  return outs;
}

std::vector<at::Tensor> mixup(at::TensorList tensors, const at::Tensor& lam, const at::Tensor& perm) {
  check_mixing(name, tensors, lam, perm);
  checked_inverse(name, perm);
  const int64_t batch = perm.numel();
  Mixing mixing = {lam_values(lam, batch), std::vector<double>(batch), std::vector<int64_t>(batch)};
  for (int64_t i = 0; i < batch; ++i) {
    mixing.other[i] = 1.0 - mixing.own[i];
    mixing.partner[i] = perm.const_data_ptr<int64_t>()[i * perm.stride(0)];
  }
  return mix_all(tensors, mixing);
}

std::vector<at::Tensor> mixup_backward(at::TensorList grads, const at::Tensor& lam, const at::Tensor& perm) {
  check_mixing(name, grads, lam, perm);
  const int64_t batch = perm.numel();
  Mixing mixing = {lam_values(lam, batch), std::vector<double>(batch), checked_inverse(name, perm)};
  for (int64_t i = 0; i < batch; ++i) mixing.other[i] = 1.0 - mixing.own[mixing.partner[i]];
  return mix_all(grads, mixing);
}

TORCH_LIBRARY_IMPL(dfad_fast, CPU, m) {
  m.impl("mixup", mixup);
  m.impl("mixup_backward", mixup_backward);
}

}  // namespace
}  // namespace dfad::cpu
