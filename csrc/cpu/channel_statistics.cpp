#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include <algorithm>
#include <vector>

#include "../channels.h"
#include "../checks.h"
#include "../dtypes.h"
#include "blocks.h"
#include "operand.h"
#include "scalar.h"
#include "tiers.h"

namespace dfad::cpu {
namespace {

constexpr const char* name = "channel_statistics";

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// In the memory order of empty_like(x), where the gradient lies.
at::Tensor dense(const at::Tensor& x) {
  return x.is_non_overlapping_and_dense() ? x : at::empty_like(x).copy_(x);
}

enum class Blocks : uint8_t { of_channels, in_memory_order };

// A stage's values, cut into blocks of so many outer rows, channels, and values of a plane: about block_size values.
// Blocks of channels hold as many values of the same channel as they can, but in pieces of at least a page.
struct Stage {
  static constexpr int64_t least_rows = 64, page = 1024, long_plane = 256;

  Stage(const at::Tensor& x, Blocks blocks, int64_t first_channel_, int64_t first_block_, int64_t first_result_)
      : values(dense(x)),
        layout(values.sizes(), values.strides()),
        wide(x.scalar_type() == at::kDouble),
        first_channel(first_channel_),
        first_block(first_block_),
        first_result(first_result_) {
    if (layout.outer == 0) return;
    if (in_rows()) {
      channels_step = layout.channels;
      outer_step = std::max(least_rows, block_size / layout.channels);
    } else {
      const int64_t pieces = layout.inner < long_plane ? page : 4 * page;
      const int64_t least = blocks == Blocks::of_channels ? pieces : block_size;
      channels_step = std::min(layout.channels, ceil_div(least, layout.inner));
      outer_step = std::max<int64_t>(1, block_size / (channels_step * layout.inner));
      inner_step = std::min(layout.inner, block_size);
    }
    outer_blocks = ceil_div(layout.outer, outer_step);
    channel_blocks = ceil_div(layout.channels, channels_step);
    inner_blocks = ceil_div(layout.inner, inner_step);
  }

  bool in_rows() const { return layout.inner == 1; }
  int64_t blocks() const { return outer_blocks * channel_blocks * inner_blocks; }
  int64_t end_block() const { return first_block + blocks(); }
  int64_t end_result() const { return first_result + blocks() * channels_step; }

  struct Block {
    int64_t outer, channel, inner;  // begins
    int64_t outer_count, channels, inner_count;
  };

  Block block(int64_t i) const {
    const int64_t outer = i / (channel_blocks * inner_blocks) * outer_step;
    const int64_t channel = i / inner_blocks % channel_blocks * channels_step;
    const int64_t inner = i % inner_blocks * inner_step;
    return {
        outer,
        channel,
        inner,
        std::min(outer_step, layout.outer - outer),
        std::min(channels_step, layout.channels - channel),
        std::min(inner_step, layout.inner - inner),
    };
  }

  int64_t offset(const Block& block) const {
    return (block.outer * layout.channels + block.channel) * layout.inner + block.inner;
  }

  ChannelValues at(int64_t offset, int64_t channels) const {
    const char* data = static_cast<const char*>(values.const_data_ptr());
    return {data + offset * static_cast<int64_t>(values.element_size()), dtype_of(values), channels};
  }

  at::Tensor values;
  ChannelLayout layout;
  bool wide;
  int64_t first_channel;  // among those of all stages
  int64_t first_block;
  int64_t first_result;  // channels_step results per block
  int64_t channels_step = 1, outer_step = 1, inner_step = 1;
  int64_t outer_blocks = 0, channel_blocks = 0, inner_blocks = 0;
};

class Stages {
 public:
  Stages(at::TensorList features, Blocks of) {
    for (const at::Tensor& x : features) {
      list_.emplace_back(x, of, channels_, blocks(), results());
      channels_ += x.size(1);
      elements_ += x.numel();
    }
  }

  int64_t channels() const { return channels_; }
  int64_t blocks() const { return list_.empty() ? 0 : list_.back().end_block(); }
  int64_t results() const { return list_.empty() ? 0 : list_.back().end_result(); }
  const std::vector<Stage>& list() const { return list_; }

  // Calls body(stage's index, stage, number of the block within it, compute type's zero), in one parallel loop.
  template <class Body>
  void for_each_block(const Body& body) const {
    cpu::for_each_block(blocks(), elements_, [&](int64_t block) {
      size_t k = 0;
      while (block >= list_[k].end_block()) ++k;
      const int64_t own = block - list_[k].first_block;
      if (list_[k].wide) {
        body(k, list_[k], own, double{});
      } else {
        body(k, list_[k], own, float{});
      }
    });
  }

 private:
  std::vector<Stage> list_;
  int64_t channels_ = 0;
  int64_t elements_ = 0;
};

// Mean and variance of a stage's channels, from its blocks' in their order.
template <class Out>
void finish(const Stage& stage, const Moments* results, Out* means, Out* variances) {
  const int64_t channels = stage.layout.channels;
  const double count = static_cast<double>(stage.layout.values);
  const auto for_each_result = [&](const auto& body) {
    for (int64_t b = 0; b < stage.blocks(); ++b) {
      const Stage::Block block = stage.block(b);
      const Moments* own = results + stage.first_result + b * stage.channels_step;
      for (int64_t c = 0; c < block.channels; ++c) body(block.channel + c, own[c]);
    }
  };
  std::vector<double> mean(channels), squares(channels);
  for_each_result([&](int64_t c, const Moments& part) { mean[c] += part.count * part.mean; });
  for (int64_t c = 0; c < channels; ++c) mean[c] /= count;
  for_each_result([&](int64_t c, const Moments& part) { squares[c] += part.around(mean[c]); });
  for (int64_t c = 0; c < channels; ++c) {
    means[c] = static_cast<Out>(mean[c]);
    variances[c] = static_cast<Out>(squares[c] / count);
  }
}

at::Tensor channel_statistics(at::TensorList features) {
  check_features(name, features);
  const Stages stages(features, Blocks::of_channels);
  std::vector<Moments> results(stages.results());
  const Kernels& kernels = active_kernels();
  stages.for_each_block([&](size_t, const Stage& stage, int64_t i, auto zero) {
    const auto& kernel = kernels.of<decltype(zero)>().channels;
    const Stage::Block block = stage.block(i);
    const ChannelValues values = stage.at(stage.offset(block), block.channels);
    Moments* out = results.data() + stage.first_result + i * stage.channels_step;
    if (stage.in_rows()) {
      kernel.row_moments(values, block.outer_count, out);
    } else {
      const int64_t inner = stage.layout.inner;
      kernel.plane_moments(
          values, {block.inner_count, inner}, block.outer_count, stage.layout.channels * inner, out);
    }
  });

  const at::ScalarType dtype = statistics_dtype(features);
  at::Tensor statistics = at::empty({2, stages.channels()}, at::TensorOptions().dtype(dtype));
  const auto finish_all = [&](auto* out) {
    for (const Stage& stage : stages.list()) {
      finish(stage, results.data(), out + stage.first_channel, out + stages.channels() + stage.first_channel);
    }
  };
  if (dtype == at::kDouble) {
    finish_all(statistics.mutable_data_ptr<double>());
  } else {
    finish_all(statistics.mutable_data_ptr<float>());
  }
  return statistics;
}

// ChannelSlopes of all stages' channels, in one compute type.
template <class A>
class Slopes {
 public:
  Slopes(const Stages& stages, const at::Tensor& grad, const at::Tensor& statistics) : channels_(stages.channels()) {
    const bool needed = std::any_of(stages.list().begin(), stages.list().end(), [](const Stage& stage) {
      return stage.wide == std::is_same_v<A, double>;
    });
    if (!needed) return;
    numbers_.resize(3 * channels_);
    for (const Stage& stage : stages.list()) {
      const double count = static_cast<double>(stage.layout.values);
      for (int64_t c = stage.first_channel; c < stage.first_channel + stage.layout.channels; ++c) {
        const double by_mean = read_scalar(grad, c * grad.stride(1));
        const double by_variance = read_scalar(grad, grad.stride(0) + c * grad.stride(1));
        numbers_[c] = static_cast<A>(read_scalar(statistics, c));
        numbers_[channels_ + c] = static_cast<A>(2 * by_variance / count);
        numbers_[2 * channels_ + c] = static_cast<A>(by_mean / count);
      }
    }
  }

  ChannelSlopes<A> of(const Stage& stage) const {
    const A* first = numbers_.data() + stage.first_channel;
    return {first, first + channels_, first + 2 * channels_};
  }

 private:
  int64_t channels_;
  std::vector<A> numbers_;
};

std::vector<at::Tensor> channel_statistics_backward(
    const at::Tensor& grad, at::TensorList features, const at::Tensor& statistics) {
  check_features(name, features);
  check_channel_grad(name, grad, statistics, features);
  const Stages stages(features, Blocks::in_memory_order);
  std::vector<at::Tensor> grads;
  grads.reserve(features.size());
  for (const Stage& stage : stages.list()) grads.push_back(at::empty_like(stage.values));

  const Slopes<float> single(stages, grad, statistics);
  const Slopes<double> wide(stages, grad, statistics);
  const Kernels& kernels = active_kernels();
  stages.for_each_block([&](size_t k, const Stage& stage, int64_t i, auto zero) {
    using A = decltype(zero);
    const auto& kernel = kernels.of<A>().channels;
    const ChannelSlopes<A> slopes = [&] {
      if constexpr (std::is_same_v<A, double>) {
        return wide.of(stage);
      } else {
        return single.of(stage);
      }
    }();
    const Stage::Block block = stage.block(i);
    const int64_t offset = stage.offset(block), element_size = grads[k].element_size();
    char* out = static_cast<char*>(grads[k].mutable_data_ptr()) + offset * element_size;
    if (stage.in_rows()) {
      kernel.row_gradient(stage.at(offset, block.channels), slopes, block.outer_count, out);
      return;
    }
    const int64_t inner = stage.layout.inner;
    for (int64_t o = 0; o < block.outer_count; ++o) {
      const int64_t sample = o * stage.layout.channels * inner;
      kernel.plane_gradient(
          stage.at(offset + sample, stage.layout.channels), slopes, {block.inner_count, inner}, block.channel,
          block.channels, out + sample * element_size);
    }
  });
  return grads;
}

TORCH_LIBRARY_IMPL(dfad_fast, CPU, m) {
  m.impl("channel_statistics", channel_statistics);
  m.impl("channel_statistics_backward", channel_statistics_backward);
}

}  // namespace
}  // namespace dfad::cpu
