#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include <algorithm>
#include <optional>

#include "../arithmetic/channel_statistics.h"
#include "../channels.h"
#include "../checks.h"
#include "../dtypes.h"
#include "channel_gradients.cuh"
#include "operands.h"
#include "table.h"
#include "tiles.cuh"

namespace dfad::cuda {
namespace {

constexpr const char* name = "channel_statistics";

// A block's threads are `columns` channels wide where channels are neighbors in memory, else they all share a channel.
constexpr int most_columns = 32;
constexpr int64_t values_per_thread = 32;

// The loop is over the values of a channel and leaves out the channels.
struct Stage {
  Loop<1> loop;
  int64_t channels;
  int64_t first_result;  // one result per chunk of rows and channel
  int32_t columns;
  bool wide;

  __host__ __device__ int64_t chunk_rows() const { return threads / columns * values_per_thread; }
  __host__ __device__ int64_t row_chunks() const { return ceil_div(loop.elements, chunk_rows()); }
  __host__ __device__ int64_t column_chunks() const { return ceil_div(channels, columns); }
  int64_t chunks() const { return row_chunks() * column_chunks(); }
};

constexpr int capacity = 16;
using Stages = Table<Stage, capacity>;

// Moments of chunks, in three planes: beside each number lies that of the next channel, which the next thread moves.
struct Parts {
  double* data;
  int64_t size;  // of a plane

  __device__ void store(int64_t i, const Moments& part) const {
    data[i] = part.count;
    data[size + i] = part.mean;
    data[2 * size + i] = part.squares;
  }

  __device__ Moments load(int64_t i) const { return {data[i], data[size + i], data[2 * size + i]}; }
};

// The sums over the threads of a channel, on the first of them.
__device__ void add_over_rows(double& sum, double& sum_of_squares, int columns) {
  __shared__ double sums[threads], squares[threads];
  const int thread = static_cast<int>(threadIdx.x);
  sums[thread] = sum;
  squares[thread] = sum_of_squares;
  for (int half = threads / 2; half >= columns; half /= 2) {
    __syncthreads();
    if (thread < half) {
      sums[thread] += sums[thread + half];
      squares[thread] += squares[thread + half];
    }
  }
  sum = sums[thread];
  sum_of_squares = squares[thread];
}

template <class A>
__device__ void add_values(const Stage& stage, int64_t first, int64_t channel, int row, double (&sums)[2], A& shift) {
  const Loop<1>& loop = stage.loop;
  const auto value = [&](int64_t k) {
    int64_t offset[1];
    offsets_of(loop, k, offset);
    return load_one<A>(loop.data[0], loop.dtypes[0], offset[0] + channel * loop.outer[0]);
  };
  const int64_t left = loop.elements - first;
  const int count = left < shift_values ? static_cast<int>(left) : shift_values;
  const A one = value(first);
  A differences = 0;
  for (int i = 1; i < count; ++i) differences += value(first + i) - one;
  shift = shift_of(one, differences, static_cast<A>(count));

  const int64_t step = threads / stage.columns;
  A sum = 0, squares = 0;
  for (int64_t i = 0; i < values_per_thread; ++i) {
    const int64_t k = first + row + i * step;
    if (k >= loop.elements) break;
    const A d = value(k) - shift;
    sum += d;
    squares += d * d;
  }
  sums[0] = sum;
  sums[1] = squares;
}

template <class A>
__global__ void __launch_bounds__(threads) moments(const __grid_constant__ Stages stages, Parts results) {
  int64_t chunk;
  const Stage& stage = stages.find(blockIdx.x, chunk);
  const int64_t row_chunk = chunk / stage.column_chunks();
  const int64_t channel = chunk % stage.column_chunks() * stage.columns + threadIdx.x % stage.columns;
  const int row = threadIdx.x / stage.columns;
  const int64_t first = row_chunk * stage.chunk_rows();
  double sums[2] = {};
  A shift = 0;
  if (channel < stage.channels) add_values(stage, first, channel, row, sums, shift);
  add_over_rows(sums[0], sums[1], stage.columns);
  if (row != 0 || channel >= stage.channels) return;
  const int64_t left = stage.loop.elements - first;
  const double count = static_cast<double>(left < stage.chunk_rows() ? left : stage.chunk_rows());
  results.store(
      stage.first_result + row_chunk * stage.channels + channel, shifted_moments(count, shift, sums[0], sums[1]));
}

// A tensor's results, whose channels are joined each by one thread.
struct Joined {
  int64_t first_result;
  int64_t row_chunks;
  int64_t channels;
  int64_t first_channel;
  double count;

  int64_t chunks() const { return ceil_div(channels, threads); }
};

constexpr int joined_capacity = 64;
using JoinedStages = Table<Joined, joined_capacity>;

__global__ void __launch_bounds__(threads) join(
    const __grid_constant__ JoinedStages stages, Parts results, void* statistics, at::ScalarType dtype,
    int64_t all_channels) {
  int64_t chunk;
  const Joined& stage = stages.find(blockIdx.x, chunk);
  const int64_t channel = chunk * threads + threadIdx.x;
  if (channel >= stage.channels) return;
  const auto part = [&](int64_t r) { return results.load(stage.first_result + r * stage.channels + channel); };
  double mean = 0, squares = 0;
  for (int64_t r = 0; r < stage.row_chunks; ++r) mean += part(r).count * part(r).mean;
  mean /= stage.count;
  for (int64_t r = 0; r < stage.row_chunks; ++r) squares += part(r).around(mean);
  store_one(statistics, dtype, stage.first_channel + channel, mean);
  store_one(statistics, dtype, all_channels + stage.first_channel + channel, squares / stage.count);
}

constexpr int gradient_capacity = 12;
using GradientStages = Table<GradientStage, gradient_capacity>;

template <class A>
__global__ void __launch_bounds__(threads, resident_blocks<A>)
    gradients(const __grid_constant__ GradientStages stages, StatisticsGradient incoming) {
  int64_t chunk;
  const GradientStage& stage = stages.find(blockIdx.x, chunk);
  const int64_t elements = stage.loop.elements;
  if (stage.inner == 1) {
    for_each_tile(elements, chunk, [&](int64_t begin) { gradients_in_rows<A>(stage, incoming, begin); });
  } else {
    for_each_tile(elements, chunk, [&](int64_t begin) { gradients_in_planes<A>(stage, incoming, begin); });
  }
}

template <int table_capacity, class Item, class Launch>
void for_each_compute_type(const c10::SmallVectorImpl<Item>& items, const Launch& launch_table) {
  c10::SmallVector<Item, 4> single, wide;
  for (const Item& item : items) (item.wide ? wide : single).push_back(item);
  for_each_table<table_capacity>(single, [&](const auto& table, int64_t blocks) { launch_table(table, blocks, float{}); });
  for_each_table<table_capacity>(wide, [&](const auto& table, int64_t blocks) { launch_table(table, blocks, double{}); });
}

int32_t columns_of(const at::Tensor& x) {
  if (x.stride(1) != 1) return 1;
  int32_t columns = 1;
  while (columns < x.size(1) && columns < most_columns) columns *= 2;
  return columns;
}

at::Tensor channel_statistics(at::TensorList features) {
  check_features(name, features);
  const c10::cuda::CUDAGuard guard(features[0].device());
  const at::TensorOptions options = features[0].options();
  const int64_t channels = channels_of(features);
  at::Tensor statistics = at::empty({2, channels}, options.dtype(statistics_dtype(features)));

  DenseCopies copies;
  c10::SmallVector<Stage, 4> stages;
  c10::SmallVector<Joined, 4> joined;
  int64_t results = 0, first_channel = 0;
  for (const at::Tensor& x : features) {
    Stage stage = {};
    stage.loop = loop_over<0>({x}, x.sizes(), dense_strides(x), copies, 1);
    stage.channels = x.size(1);
    stage.first_result = results;
    stage.columns = columns_of(x);
    stage.wide = x.scalar_type() == at::kDouble;
    if (stage.channels == 0) continue;
    Joined all = {};
    all.first_result = results;
    all.row_chunks = stage.row_chunks();
    all.channels = stage.channels;
    all.first_channel = first_channel;
    all.count = static_cast<double>(stage.loop.elements);
    joined.push_back(all);
    stages.push_back(stage);
    results += stage.row_chunks() * stage.channels;
    first_channel += stage.channels;
  }

  const at::Tensor scratch = at::empty({3, results}, options.dtype(at::kDouble));
  const Parts found = {scratch.mutable_data_ptr<double>(), results};
  for_each_compute_type<capacity>(stages, [&](const Stages& table, int64_t blocks, auto compute) {
    launch(moments<decltype(compute)>, blocks, table, found);
  });
  for_each_table<joined_capacity>(joined, [&](const JoinedStages& table, int64_t blocks) {
    launch(join, blocks, table, found, statistics.mutable_data_ptr(), statistics.scalar_type(), channels);
  });
  return statistics;
}

// How many neighboring channels one access moves of each number that a gradient takes, from this channel on. No piece
// may belong to two rows.
int8_t channels_at_once(
    const at::Tensor& grad, const at::Tensor& statistics, at::ScalarType compute, int64_t first, int64_t channels) {
  if (grad.stride(1) != 1) return 1;
  int64_t unit = most_channels;
  for (const at::Tensor& x : {grad, statistics}) {
    if (x.scalar_type() != compute) return 1;
    const char* const data = static_cast<const char*>(x.const_data_ptr()) + first * x.element_size();
    unit = std::min(unit, neighbors_at(data, x.stride(0), x.element_size()));
  }
  while (channels % unit != 0) unit /= 2;
  return static_cast<int8_t>(unit);
}

std::vector<at::Tensor> channel_statistics_backward(
    const at::Tensor& grad, at::TensorList features, const at::Tensor& statistics) {
  check_features(name, features);
  check_channel_grad(name, grad, statistics, features);
  const c10::cuda::CUDAGuard guard(features[0].device());

  std::vector<at::Tensor> grads;
  DenseCopies copies;
  c10::SmallVector<GradientStage, 4> stages;
  int64_t first_channel = 0;
  for (const at::Tensor& x : features) {
    grads.push_back(at::empty_like(x));
    const ChannelLayout layout(x.sizes(), grads.back().strides());
    GradientStage stage = {};
    stage.loop = loop_over<1>({grads.back(), x}, x.sizes(), dense_strides(x), copies);
    stage.channels = layout.channels;
    stage.inner = layout.inner;
    stage.first_channel = first_channel;
    stage.share = 1.0 / static_cast<double>(layout.values);
    stage.wide = x.scalar_type() == at::kDouble;
    if (stage.inner == 1) {
      const at::ScalarType compute = stage.wide ? at::kDouble : at::kFloat;
      const int8_t unit = channels_at_once(grad, statistics, compute, first_channel, stage.channels);
      stage.loop.unit = std::min(stage.loop.unit, unit);
    }
    first_channel += layout.channels;
    stages.push_back(stage);
  }
  const StatisticsGradient incoming = {
      grad.const_data_ptr(), statistics.const_data_ptr(), grad.scalar_type(), statistics.scalar_type(),
      grad.stride(0), grad.stride(1)};
  for_each_compute_type<gradient_capacity>(stages, [&](const GradientStages& table, int64_t blocks, auto compute) {
    launch(gradients<decltype(compute)>, blocks, table, incoming);
  });
  copies.write_back();
  return grads;
}

TORCH_LIBRARY_IMPL(dfad_fast, CUDA, m) {
  m.impl("channel_statistics", channel_statistics);
  m.impl("channel_statistics_backward", channel_statistics_backward);
}

}  // namespace
}  // namespace dfad::cuda
