#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include "../checks.h"
#include "samples.h"
#include "tiers.h"

namespace dfad::cpu {
namespace {

constexpr const char* name = "mixup";

std::vector<at::Tensor> mix_all(at::TensorList tensors, const Mixing& mixing) {
  std::vector<at::Tensor> outs;
  outs.reserve(tensors.size());
  c10::SmallVector<Samples, 2> batches;
  int64_t elements = 0, sample_blocks = 0;
  for (const at::Tensor& x : tensors) {
    outs.push_back(at::empty_like(x));
    batches.push_back(Samples(x, {&x, &outs.back()}));
    elements += x.numel();
    sample_blocks = std::max(sample_blocks, batches.back().blocks());
  }
  const Kernels& kernels = active_kernels();
  // A work item covers a sample's part of every tensor, so that threads share large and small tensors evenly.
  const int64_t batch = static_cast<int64_t>(mixing.own.size());
  for_each_block(batch * sample_blocks, elements, [&](int64_t item) {
    const int64_t i = item / sample_blocks, block = item % sample_blocks;
    for (size_t t = 0; t < tensors.size(); ++t) {
      const Samples& samples = batches[t];
      if (block >= samples.blocks()) continue;
      const auto mix = [&](auto zero) {
        using A = decltype(zero);
        kernels.of<A>().mix(
            mixing.weights<A>(i), samples.shape(), samples.operand(0, i), samples.operand(0, mixing.partner[i]),
            samples.operand(1, i), samples.range(block));
      };
      if (tensors[t].scalar_type() == at::kDouble) {
        mix(double{});
      } else {
        mix(float{});
      }
    }
  });
  return outs;
}

std::vector<at::Tensor> mixup(at::TensorList tensors, const at::Tensor& lam, const at::Tensor& perm) {
  check_mixing(name, tensors, lam, perm);
  checked_inverse(name, perm);
  return mix_all(tensors, forward_mixing(lam, perm));
}

std::vector<at::Tensor> mixup_backward(at::TensorList grads, const at::Tensor& lam, const at::Tensor& perm) {
  check_mixing(name, grads, lam, perm);
  return mix_all(grads, backward_mixing(lam, checked_inverse(name, perm)));
}

TORCH_LIBRARY_IMPL(dfad_fast, CPU, m) {
  m.impl("mixup", mixup);
  m.impl("mixup_backward", mixup_backward);
}

}  // namespace
}  // namespace dfad::cpu
