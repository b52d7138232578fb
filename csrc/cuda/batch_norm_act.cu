#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <c10/cuda/CUDAGuard.h>
#include <torch/library.h>

#include <cmath>

#include "../arithmetic/batch_norm_act.h"
#include "../checks.h"
#include "../dtypes.h"
#include "../layout.h"
#include "channel_tiles.cuh"
#include "operands.h"

namespace dfad::cuda {
namespace {

constexpr const char* name = "batch_norm_act";
using OptionalTensor = std::optional<at::Tensor>;

// What a channel is normalized with, and in which dtypes that lies. Numbers per channel are computed in double.
template <class A>
struct Norm {
  const A* statistics;
  const void *weight, *bias;  // null: 1 and 0
  at::ScalarType weight_dtype, bias_dtype;
  int64_t channels;
  double eps;

  __device__ __forceinline__ A mean(int64_t c) const { return statistics[c]; }
  __device__ __forceinline__ double rstd(int64_t c) const {
    return 1.0 / std::sqrt(static_cast<double>(statistics[channels + c]) + eps);
  }
  __device__ __forceinline__ double scale(int64_t c) const {
    return (weight == nullptr ? 1.0 : load_one<double>(weight, weight_dtype, c)) * rstd(c);
  }
  __device__ __forceinline__ double shift(int64_t c) const {
    return bias == nullptr ? 0.0 : load_one<double>(bias, bias_dtype, c);
  }
};

// Those of this thread's channels.
template <class A, int width>
struct Constants {
  A mean[width], scale[width], bias[width];

  __device__ __forceinline__ Constants(const ChannelTiles& of, const Tile<width>& tile, const Norm<A>& norm) {
    __shared__ A means[max_channels], scales[max_channels], biases[max_channels];
    const int mine = static_cast<int>(threadIdx.x);
    if (mine < tile.channels) {
      const int64_t c = tile.channel + mine;
      const bool there = c < of.count;
      means[mine] = there ? norm.mean(c) : A(0);
      scales[mine] = there ? static_cast<A>(norm.scale(c)) : A(0);
      biases[mine] = there ? static_cast<A>(norm.shift(c)) : A(0);
    }
    __syncthreads();
    tile.pick(of, means, mean);
    tile.pick(of, scales, scale);
    tile.pick(of, biases, bias);
  }
};

// Where values are counted from, so that little is lost where they are far from 0: the mean of those that the block's
// threads read first, as one alone may be an outlier.
template <class A, int width>
__device__ __forceinline__ void find_shift(
    const ChannelTiles& of, const Tile<width>& tile, at::ScalarType dtype, const void* x, A (&shift)[width]) {
  if (of.planes()) {
    const A one = load_one<A>(x, dtype, tile.corner);
#pragma unroll
    for (int j = 0; j < width; ++j) shift[j] = one;
  } else {
    load(x, dtype, tile.first, shift);
  }
  A off[width] = {};
  if (tile.begin < tile.end) {
    load(x, dtype, tile.first + tile.begin * of.row(), off);
#pragma unroll
    for (int j = 0; j < width; ++j) off[j] -= shift[j];
  }
  const double* const totals = block_sums(of, tile, off);
  const double values = static_cast<double>(of.values_in(tile.chunk, of.rows_at_once()));
#pragma unroll
  for (int j = 0; j < width; ++j) {
    const A mean = shift[j] + static_cast<A>(totals[of.planes() ? 0 : tile.place + j] / values);
    shift[j] = mean - mean == 0 ? mean : A(0);  // not where it is NaN or infinite
  }
}

// Per chunk and channel: the shift, and the sums of the distances from it and of their squares.
template <class A, int width>
__global__ void __launch_bounds__(threads)
    moments(const __grid_constant__ ChannelTiles of, at::ScalarType dtype, const void* x, A* parts) {
  const Tile<width> tile(of);
  A shift[width];
  find_shift(of, tile, dtype, x, shift);
  A sums[width] = {}, squares[width] = {};
  tile.for_each(of, [&](int64_t i) {
    A values[width];
    load(x, dtype, i, values);
#pragma unroll
    for (int j = 0; j < width; ++j) {
      const A off = values[j] - shift[j];
      sums[j] += off;
      squares[j] += off * off;
    }
  });
  if (tile.begin == 0 && tile.end > 0) {
    A* const shifts = parts + tile.chunk * of.count + tile.channel;
    if (!of.planes()) {
      store(shifts, c10::CppTypeToScalarType<A>::value, tile.place, shift);
    } else if (threadIdx.x == 0) {
      shifts[0] = shift[0];
    }
  }
  const int64_t part = of.chunks() * of.count;
  write_sums(of, tile, sums, parts + part);
  write_sums(of, tile, squares, parts + 2 * part);
}

// Mean and biased variance, put together in double.
template <class A>
__global__ void __launch_bounds__(threads)
    statistics(const __grid_constant__ ChannelTiles of, const A* parts, A* result) {
  const int64_t c = int64_t{blockIdx.x} * channels_together + threadIdx.x % channels_together;
  const int64_t chunks = c < of.count ? of.chunks() : 0, part = of.chunks() * of.count;
  const auto at = [&](int k, int64_t chunk) { return static_cast<double>(parts[k * part + chunk * of.count + c]); };
  double sum = 0;
  for_each_chunk(chunks, [&](int64_t k) { sum += static_cast<double>(of.values_in(k, of.chunk_rows)) * at(0, k) + at(1, k); });
  const double mean = channel_sum(sum) / static_cast<double>(of.values());
  double squares = 0;
  for_each_chunk(chunks, [&](int64_t k) {
    const double off = mean - at(0, k);
    squares += at(2, k) - off * (2 * at(1, k) - static_cast<double>(of.values_in(k, of.chunk_rows)) * off);
  });
  const double variance = channel_sum(squares) / static_cast<double>(of.values());
  if (c >= of.count || threadIdx.x >= channels_together) return;
  result[c] = static_cast<A>(mean);
  result[of.count + c] = static_cast<A>(variance < 0 ? 0 : variance);  // NaN stays
}

template <class A, int width>
__global__ void __launch_bounds__(threads) apply(
    const __grid_constant__ ChannelTiles of, at::ScalarType dtype, const __grid_constant__ Norm<A> norm,
    BatchNormAct<A> f, const void* x, const void* residual, void* out) {
  const Tile<width> tile(of);
  const Constants<A, width> own(of, tile, norm);
  tile.for_each(of, [&](int64_t i) {
    A values[width], beside[width] = {};
    load(x, dtype, i, values);
    if (residual != nullptr) load(residual, dtype, i, beside);
#pragma unroll
    for (int j = 0; j < width; ++j) {
      A y = f.normalized(values[j], own.mean[j], own.scale[j], own.bias[j]);
      if (residual != nullptr) y += beside[j];
      values[j] = f.activated(y, y <= 0);
    }
    store(out, dtype, i, values);
  });
}

// What backward reads. `out` is null where x tells on which side of the activation a value was.
struct Sources {
  const void *grad, *x, *out;
};

// The gradient that comes to the values before the activation, and x.
template <class A, int width>
__device__ __forceinline__ void load_gradient(
    at::ScalarType dtype, const Sources& from, const BatchNormAct<A>& f, const Constants<A, width>& own, int64_t i,
    A (&grad)[width], A (&x)[width]) {
  load(from.grad, dtype, i, grad);
  load(from.x, dtype, i, x);
  if (f.slope == 1) return;
  A y[width];
  if (from.out != nullptr) load(from.out, dtype, i, y);
#pragma unroll
  for (int j = 0; j < width; ++j) {
    if (from.out == nullptr) y[j] = f.normalized(x[j], own.mean[j], own.scale[j], own.bias[j]);
    grad[j] = f.activated(grad[j], y[j] <= 0);
  }
}

// Per chunk and channel: the sums of the gradient before the activation and of its products with x - mean, where
// `parts` is given. The gradient is the residual's.
template <class A, int width>
__global__ void __launch_bounds__(threads) sums(
    const __grid_constant__ ChannelTiles of, at::ScalarType dtype, const __grid_constant__ Norm<A> norm,
    BatchNormAct<A> f, const __grid_constant__ Sources from, void* residual_grad, A* parts) {
  const Tile<width> tile(of);
  const Constants<A, width> own(of, tile, norm);
  A grads[width] = {}, products[width] = {};
  tile.for_each(of, [&](int64_t i) {
    A grad[width], x[width];
    load_gradient(dtype, from, f, own, i, grad, x);
    if (residual_grad != nullptr) store(residual_grad, dtype, i, grad);
#pragma unroll
    for (int j = 0; j < width; ++j) {
      grads[j] += grad[j];
      products[j] += grad[j] * (x[j] - own.mean[j]);
    }
  });
  if (parts == nullptr) return;
  write_sums(of, tile, grads, parts);
  write_sums(of, tile, products, parts + of.chunks() * of.count);
}

// Where the gradients of weight and bias go, each in its dtype; null where not wanted.
struct Targets {
  void *weight, *bias;
  at::ScalarType weight_dtype, bias_dtype;
};

// `through`: what the gradient of x gets through the variance and the mean, `by_x` and `level` of each channel.
template <class A>
__global__ void __launch_bounds__(threads) finish(
    const __grid_constant__ ChannelTiles of, const __grid_constant__ Norm<A> norm, const A* parts,
    const __grid_constant__ Targets to, A* through) {
  const int64_t c = int64_t{blockIdx.x} * channels_together + threadIdx.x % channels_together;
  const int64_t chunks = c < of.count ? of.chunks() : 0, part = of.chunks() * of.count;
  double grad = 0, product = 0;
  for_each_chunk(chunks, [&](int64_t k) {
    grad += parts[k * of.count + c];
    product += parts[part + k * of.count + c];
  });
  grad = channel_sum(grad);
  product = channel_sum(product);
  if (c >= of.count || threadIdx.x >= channels_together) return;
  const double rstd = norm.rstd(c);
  if (to.weight != nullptr) store_one(to.weight, to.weight_dtype, c, rstd * product);
  if (to.bias != nullptr) store_one(to.bias, to.bias_dtype, c, grad);
  if (through == nullptr) return;
  const double scale = norm.scale(c), share = 1.0 / static_cast<double>(of.values());
  through[c] = static_cast<A>(-scale * rstd * rstd * product * share);
  through[of.count + c] = static_cast<A>(-scale * grad * share);
}

// Without `through` the statistics are constants.
template <class A, int width>
__global__ void __launch_bounds__(threads) gradients(
    const __grid_constant__ ChannelTiles of, at::ScalarType dtype, const __grid_constant__ Norm<A> norm,
    BatchNormAct<A> f, const __grid_constant__ Sources from, const A* through, void* x_grad) {
  const Tile<width> tile(of);
  const Constants<A, width> own(of, tile, norm);
  A by_x[width] = {}, level[width] = {};
  if (through != nullptr && tile.end > 0) {
    tile.load_own(of, through, by_x);
    tile.load_own(of, through + of.count, level);
  }
  tile.for_each(of, [&](int64_t i) {
    A grad[width], x[width];
    load_gradient(dtype, from, f, own, i, grad, x);
#pragma unroll
    for (int j = 0; j < width; ++j) {
      grad[j] = through == nullptr
          ? grad[j] * own.scale[j]
          : f.input_gradient(grad[j], x[j], own.mean[j], own.scale[j], by_x[j], level[j]);
    }
    store(x_grad, dtype, i, grad);
  });
}

// Calls body(std::integral_constant) with the vectors' width.
template <class Body>
void with_width(const ChannelTiles& of, const Body& body) {
  if (of.width == channel_width) {
    body(std::integral_constant<int, channel_width>{});
  } else {
    body(std::integral_constant<int, 1>{});
  }
}

bool computes_double(const at::Tensor& x) {
  return x.scalar_type() == at::kDouble;
}

at::TensorOptions compute_options(const at::Tensor& x) {
  return x.options().dtype(statistics_dtype({x}));
}

const void* data_of(const at::Tensor& x) {
  return x.defined() ? x.const_data_ptr() : nullptr;
}

// Whether all of them begin where vectors may, as one that is not defined and one that was made here do.
bool are_aligned(at::TensorList tensors) {
  const auto aligned = [](const at::Tensor& x) { return reinterpret_cast<uintptr_t>(data_of(x)) % 16 == 0; };
  return std::all_of(tensors.begin(), tensors.end(), aligned);
}

at::Tensor contiguous(const OptionalTensor& x) {
  return x ? x->contiguous() : at::Tensor();
}

template <class A>
Norm<A> norm_of(const at::Tensor& statistics, const at::Tensor& weight, const at::Tensor& bias, double eps) {
  const auto dtype = [](const at::Tensor& x) { return x.defined() ? x.scalar_type() : at::kFloat; };
  return {
      statistics.const_data_ptr<A>(), data_of(weight), data_of(bias), dtype(weight), dtype(bias), statistics.size(1),
      eps};
}

template <class A>
void find_statistics(const ChannelTiles& of, const at::Tensor& x, const at::Tensor& result) {
  const at::Tensor parts = at::empty({3, of.chunks(), of.count}, result.options());
  A* const to = parts.mutable_data_ptr<A>();
  with_width(of, [&](auto width) { launch(moments<A, decltype(width)::value>, of.blocks(), of, x.scalar_type(), data_of(x), to); });
  launch(statistics<A>, ceil_div(of.count, channels_together), of, to, result.mutable_data_ptr<A>());
}

template <class A>
std::tuple<at::Tensor, at::Tensor> forward(
    const at::Tensor& input, const OptionalTensor& beside, const OptionalTensor& weight_, const OptionalTensor& bias_,
    const OptionalTensor& given, double slope, double eps) {
  const Dims strides = dense_strides(input);
  const at::Tensor x = laid_out_on_device(input, strides),
                   residual = beside ? laid_out_on_device(*beside, strides) : at::Tensor();
  const at::Tensor out = at::empty_like(x), weight = contiguous(weight_), bias = contiguous(bias_);
  const ChannelTiles of = tiles_of(x.sizes(), strides, are_aligned({x, residual}));
  const at::Tensor found = at::empty({2, of.count}, compute_options(x));
  if (given) {
    found.copy_(*given);
  } else {
    find_statistics<A>(of, x, found);
  }
  with_width(of, [&](auto width) {
    launch(
        apply<A, decltype(width)::value>, of.blocks(), of, x.scalar_type(), norm_of<A>(found, weight, bias, eps),
        BatchNormAct<A>{static_cast<A>(slope)}, data_of(x), data_of(residual), out.mutable_data_ptr());
  });
  return {out, found};
}

template <class A>
std::vector<at::Tensor> backward(
    const at::Tensor& gradient, const at::Tensor& input, const OptionalTensor& output, const OptionalTensor& weight_,
    const OptionalTensor& bias_, const at::Tensor& given, bool constant, double slope, double eps,
    std::array<bool, 4> wanted) {
  const auto [x_wanted, residual_wanted, weight_wanted, bias_wanted] = wanted;
  const Dims strides = dense_strides(input);
  const at::Tensor x = laid_out_on_device(input, strides), grad = laid_out_on_device(gradient, strides),
                   out = output ? laid_out_on_device(*output, strides) : at::Tensor();
  const at::Tensor found = given.contiguous(), weight = contiguous(weight_), bias = contiguous(bias_);
  const ChannelTiles of = tiles_of(x.sizes(), strides, are_aligned({x, grad, out}));
  const Norm<A> norm = norm_of<A>(found, weight, bias, eps);
  const BatchNormAct<A> f = {static_cast<A>(slope)};

  const auto per_channel = [&](bool there, const at::Tensor& like) {
    if (!there) return at::Tensor();
    return at::empty({of.count}, like.defined() ? x.options().dtype(like.scalar_type()) : compute_options(x));
  };
  const at::Tensor x_grad = x_wanted ? at::empty_like(x) : at::Tensor(),
                   residual_grad = residual_wanted ? at::empty_like(x) : at::Tensor(),
                   weight_grad = per_channel(weight_wanted, weight), bias_grad = per_channel(bias_wanted, bias);
  const auto target = [](const at::Tensor& x) { return x.defined() ? x.mutable_data_ptr() : nullptr; };
  const bool through_statistics = x_wanted && !constant;
  const bool summed = weight_wanted || bias_wanted || through_statistics;

  const at::Tensor through = through_statistics ? at::empty({2, of.count}, compute_options(x)) : at::Tensor();
  A* const to_through = through.defined() ? through.mutable_data_ptr<A>() : nullptr;
  if (summed || residual_wanted) {
    const at::Tensor parts = summed ? at::empty({2, of.chunks(), of.count}, compute_options(x)) : at::Tensor();
    A* const to = summed ? parts.mutable_data_ptr<A>() : nullptr;
    with_width(of, [&](auto width) {
      launch(
          sums<A, decltype(width)::value>, of.blocks(), of, x.scalar_type(), norm, f,
          Sources{data_of(grad), data_of(x), data_of(out)}, target(residual_grad), to);
    });
    if (summed) {
      const auto dtype = [](const at::Tensor& x) { return x.defined() ? x.scalar_type() : at::kFloat; };
      launch(
          finish<A>, ceil_div(of.count, channels_together), of, norm, to,
          Targets{target(weight_grad), target(bias_grad), dtype(weight_grad), dtype(bias_grad)}, to_through);
    }
  }
  if (x_wanted) {
    // The gradient before the activation may lie there already.
    const at::Tensor from = residual_wanted ? residual_grad : grad, side = residual_wanted ? at::Tensor() : out;
    with_width(of, [&](auto width) {
      launch(
          gradients<A, decltype(width)::value>, of.blocks(), of, x.scalar_type(), norm,
          residual_wanted ? BatchNormAct<A>{1} : f, Sources{data_of(from), data_of(x), data_of(side)}, to_through,
          x_grad.mutable_data_ptr());
    });
  }
  std::vector<at::Tensor> results;
  for (const at::Tensor& result : {x_grad, residual_grad, weight_grad, bias_grad}) {
    if (result.defined()) results.push_back(result);
  }
  return results;
}

std::tuple<at::Tensor, at::Tensor> batch_norm_act(
    const at::Tensor& x, const OptionalTensor& residual, const OptionalTensor& weight, const OptionalTensor& bias,
    const OptionalTensor& given, bool constant, double slope, double eps) {
  check_batch_norm(name, x, residual, weight, bias, given, constant, slope, eps);
  const c10::cuda::CUDAGuard guard(x.device());
  const auto run = computes_double(x) ? forward<double> : forward<float>;
  return run(x, residual, weight, bias, given, slope, eps);
}

std::vector<at::Tensor> batch_norm_act_backward(
    const at::Tensor& grad, const at::Tensor& x, const OptionalTensor& out, const OptionalTensor& weight,
    const OptionalTensor& bias, const at::Tensor& statistics, bool constant, double slope, double eps,
    std::array<bool, 4> wanted) {
  check_batch_norm(name, x, std::nullopt, weight, bias, statistics, constant, slope, eps);
  check_batch_norm_backward(name, grad, x, out);
  const c10::cuda::CUDAGuard guard(x.device());
  const auto run = computes_double(x) ? backward<double> : backward<float>;
  return run(grad, x, out, weight, bias, statistics, constant, slope, eps, wanted);
}

TORCH_LIBRARY_IMPL(dfad_fast, CUDA, m) {
  m.impl("batch_norm_act", batch_norm_act);
  m.impl("batch_norm_act_backward", batch_norm_act_backward);
}

}  // namespace
}  // namespace dfad::cuda
