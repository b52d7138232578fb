#include "transpose.h"

#include "../layout.h"
#include "launch.h"
#include "offsets.cuh"

namespace dfad::cuda {
namespace {

constexpr int64_t side = warp;  // of the square that a block transposes, through shared memory
constexpr int64_t narrowest = 8;  // float32 then fills a sector

constexpr int64_t squares_of(const Transposition& of) {
  return ceil_div(of.rows, side) * ceil_div(of.columns, side);
}

template <class Word>
__global__ void __launch_bounds__(threads)
    transpose_squares(const __grid_constant__ Transposition of, const Word* from, Word* to) {
  __shared__ Word square[side][side + 1];  // a column more, so that no two lanes meet in a bank
  constexpr int64_t lines = threads / warp;
  const int64_t lane = threadIdx.x % warp, line = threadIdx.x / warp;
  const int64_t squares = squares_of(of), across = ceil_div(of.columns, side);
  const int64_t matrix = quotient(blockIdx.x, squares, gridDim.x), place = blockIdx.x - matrix * squares;
  const int64_t first_row = place / across * side, first_column = place % across * side;
  from += matrix * of.from_matrix;
  to += matrix * of.to_matrix;
#pragma unroll
  for (int64_t i = line; i < side; i += lines) {
    const int64_t row = first_row + lane, column = first_column + i;
    if (row < of.rows && column < of.columns) square[i][lane] = from[row + column * of.from_column];
  }
  __syncthreads();
#pragma unroll
  for (int64_t i = line; i < side; i += lines) {
    const int64_t row = first_row + i, column = first_column + lane;
    if (row < of.rows && column < of.columns) to[row * of.to_row + column] = square[lane][i];
  }
}

template <class Word>
void launch_words(const Transposition& of, const at::Tensor& to, const at::Tensor& from) {
  launch(
      transpose_squares<Word>, of.matrices * squares_of(of), of, static_cast<const Word*>(from.const_data_ptr()),
      static_cast<Word*>(to.mutable_data_ptr()));
}

}  // namespace

std::optional<Transposition> transposition_of(at::IntArrayRef sizes, at::IntArrayRef to, at::IntArrayRef from) {
  const Layout layout(sizes, to, {to, from});
  const auto merged = layout.sizes();
  const size_t dims = merged.size();
  if (dims != 2 && dims != 3) return std::nullopt;
  const int64_t *const into = layout.strides(0) + dims - 2, *const out_of = layout.strides(1) + dims - 2;
  const int64_t rows = merged[dims - 2], columns = merged[dims - 1];
  if (into[1] != 1 || out_of[0] != 1 || rows < narrowest || columns < narrowest) return std::nullopt;
  const bool several = dims == 3;
  return Transposition{
      several ? merged[0] : 1, rows, columns, several ? into[-1] : 0, into[0], several ? out_of[-1] : 0, out_of[1]};
}

void transpose(const Transposition& of, const at::Tensor& to, const at::Tensor& from) {
  switch (to.element_size()) {
    case 2: return launch_words<uint16_t>(of, to, from);
    case 4: return launch_words<uint32_t>(of, to, from);
    default: return launch_words<uint64_t>(of, to, from);
  }
}

}  // namespace dfad::cuda
