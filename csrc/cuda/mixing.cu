#include <ATen/ops/empty_like.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include <limits>

#include "../arithmetic/mixture.h"
#include "../checks.h"
#include "rows.cuh"
#include "table.h"

namespace dfad::cuda {
namespace {

constexpr const char* name = "mixup";
constexpr int width = 8;

// One tensor of the batch: its mixture, and twice itself, for a row and its partner. The loop covers one row.
struct Mixed {
  Loop<3> loop;
  int64_t batch;

  int64_t chunks() const { return row_chunks(batch, loop.elements, width); }
};

constexpr int capacity = 11;
using Batch = Table<Mixed, capacity>;

// Forward, 1 - lam is taken at the row itself; backward, at its partner.
template <class A>
__global__ void __launch_bounds__(threads)
    mix(const __grid_constant__ Batch tensors, const __grid_constant__ Mixing mixing, bool backward) {
  int64_t chunk;
  const Mixed& tensor = tensors.find(blockIdx.x, chunk);
  const Loop<3>& loop = tensor.loop;
  for_each_row_vector<width>(mixing.batch, loop.elements, chunk, [&](int64_t row, int64_t begin) {
    const int64_t partner = mixing.partner_of(row);
    const bool missing = partner < 0;
    const int64_t other = missing ? row : partner;
    const Mixture<A> mixture = {
        static_cast<A>(mixing.lam_of(row)), static_cast<A>(1.0 - mixing.lam_of(backward ? other : row))};
    const int64_t base[3] = {row * loop.outer[0], row * loop.outer[1], other * loop.outer[2]};
    for_vector<A, width, 1>(loop, base, begin, [&](int, const A (&in)[2], A (&out)[1]) {
      out[0] = missing ? std::numeric_limits<A>::quiet_NaN() : mixture(in[0], in[1]);
    });
  });
}

std::vector<at::Tensor> mix_all(at::TensorList tensors, const Mixing& mixing, bool backward) {
  std::vector<at::Tensor> outs;
  DenseCopies copies;
  c10::SmallVector<Mixed, 2> single, wide;
  for (const at::Tensor& x : tensors) {
    const at::Tensor& out = outs.emplace_back(at::empty_like(x));
    const Mixed mixed = {loop_over<1>({out, x, x}, x.sizes(), out.strides(), copies, /*left_out=*/0), mixing.batch};
    (x.scalar_type() == at::kDouble ? wide : single).push_back(mixed);
  }
  for_each_table<capacity>(single, [&](const Batch& batch, int64_t blocks) {
    launch(mix<float>, blocks, batch, mixing, backward);
  });
  for_each_table<capacity>(wide, [&](const Batch& batch, int64_t blocks) {
    launch(mix<double>, blocks, batch, mixing, backward);
  });
  copies.write_back();
  return outs;
}

std::vector<at::Tensor> mixup(at::TensorList tensors, const at::Tensor& lam, const at::Tensor& perm) {
  check_mixing(name, tensors, lam, perm);
  const c10::cuda::CUDAGuard guard(tensors[0].device());
  return mix_all(tensors, mixing_of(lam, perm), false);
}

std::vector<at::Tensor> mixup_backward(at::TensorList grads, const at::Tensor& lam, const at::Tensor& perm) {
  check_mixing(name, grads, lam, perm);
  const c10::cuda::CUDAGuard guard(grads[0].device());
  const at::Tensor inverse = inverse_of(perm);
  return mix_all(grads, mixing_of(lam, inverse), true);
}

TORCH_LIBRARY_IMPL(dfad_fast, CUDA, m) {
  m.impl("mixup", mixup);
  m.impl("mixup_backward", mixup_backward);
}

}  // namespace
}  // namespace dfad::cuda
