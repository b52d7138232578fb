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

// One tensor of the batch: its mixture, and twice itself, for a row and its partner. The loop covers one row.
struct Mixable {
  Loop<3> loop;
  int64_t batch;

  DFAD_HD Rows rows() const { return {batch, loop.elements}; }
  int64_t chunks() const { return rows().chunks(); }
};

constexpr int capacity = 11;
using Batch = Table<Mixable, capacity>;

// What a row becomes.
template <class A>
struct Mixed {
  Mixture<A> mixture;
  bool missing;
};

// Backward, a row goes with the one whose partner it is, and 1 - lam is taken there.
template <class A>
__global__ void __launch_bounds__(threads, resident_blocks<A>)
    mix(const __grid_constant__ Batch tensors, const __grid_constant__ Mixing mixing, const int64_t* inverse,
        bool backward) {
  const RowSources sources = sources_of(mixing, inverse, backward);
  int64_t chunk;
  const Mixable& tensor = tensors.find(blockIdx.x, chunk);
  const Loop<3>& loop = tensor.loop;
  const Rows rows = tensor.rows();
  const auto place = [&](auto way, int64_t k, int64_t (&offsets)[3]) {
    const int64_t row = rows.row_of(k), partner = backward ? sources.of(row) : mixing.partner_of(row);
    const bool missing = partner < 0;
    const int64_t other = missing ? row : partner;
    offsets_in_rows(way, loop, k - row * rows.elements, {row, row, other}, offsets);
    return Mixed<A>{
        {static_cast<A>(mixing.lam_of(row)), static_cast<A>(1.0 - mixing.lam_of(backward ? other : row))}, missing};
  };
  for_each_tile(rows.all(), chunk, [&](int64_t begin) {
    for_tile<A, AtOnce<width, 2>, 1>(
        loop, rows.all(), begin, place, [&](const Mixed<A>& row, Element, const A (&in)[2], A (&out)[1]) {
          out[0] = row.missing ? std::numeric_limits<A>::quiet_NaN() : row.mixture(in[0], in[1]);
        });
  });
}

std::vector<at::Tensor> mix_all(
    at::TensorList tensors, const at::Tensor& lam, const at::Tensor& perm, bool backward) {
  const c10::cuda::CUDAGuard guard(tensors[0].device());
  const Mixing mixing = mixing_of(lam, perm);
  const at::Tensor inverse = backward ? inverse_of(mixing, perm.options()) : at::Tensor();
  std::vector<at::Tensor> outs;
  DenseCopies copies;
  c10::SmallVector<Mixable, 2> single, wide;
  for (const at::Tensor& x : tensors) {
    const at::Tensor& out = outs.emplace_back(at::empty_like(x));
    const Mixable mixed = {loop_over<1>({out, x, x}, x.sizes(), out.strides(), copies, /*left_out=*/0), mixing.batch};
    (x.scalar_type() == at::kDouble ? wide : single).push_back(mixed);
  }
  for_each_table<capacity>(single, [&](const Batch& batch, int64_t blocks) {
    launch(mix<float>, blocks, batch, mixing, data_of(inverse), backward);
  });
  for_each_table<capacity>(wide, [&](const Batch& batch, int64_t blocks) {
    launch(mix<double>, blocks, batch, mixing, data_of(inverse), backward);
  });
  copies.write_back();
  return outs;
}

std::vector<at::Tensor> mixup(at::TensorList tensors, const at::Tensor& lam, const at::Tensor& perm) {
  check_mixing(name, tensors, lam, perm);
  return mix_all(tensors, lam, perm, false);
}

std::vector<at::Tensor> mixup_backward(at::TensorList grads, const at::Tensor& lam, const at::Tensor& perm) {
  check_mixing(name, grads, lam, perm);
  return mix_all(grads, lam, perm, true);
}

TORCH_LIBRARY_IMPL(dfad_fast, CUDA, m) {
  m.impl("mixup", mixup);
  m.impl("mixup_backward", mixup_backward);
}

}  // namespace
}  // namespace dfad::cuda
