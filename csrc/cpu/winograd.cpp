#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <algorithm>

#include "../checks.h"
#include "panels.h"
#include "tiers.h"

namespace dfad::cpu {
namespace {

constexpr const char* name = "winograd_conv2d";

int64_t components_of(int64_t tile) { return (tile + 2) * (tile + 2); }

// Channels in one piece, as channels_last has them; other dimensions may have any strides.
at::Tensor with_channels_innermost(const at::Tensor& x) {
  return x.stride(1) == 1 || x.size(1) == 1 ? x : x.contiguous(at::MemoryFormat::ChannelsLast);
}

at::Tensor empty_images(at::IntArrayRef sizes, const at::Tensor& like) {
  return at::empty(sizes, like.options().memory_format(at::MemoryFormat::ChannelsLast));
}

Images images_of(const at::Tensor& x, const at::Tensor& zeros = {}) {
  return {
      const_cast<float*>(x.const_data_ptr<float>()),
      x.size(1),
      x.size(2),
      x.size(3),
      x.stride(0),
      x.stride(2),
      x.stride(3),
      zeros.defined() ? zeros.const_data_ptr<float>() : nullptr};
}

// The filters as panels of output channels, for the convolution, or of input channels, for its adjoint.
Filters filters_of(const at::Tensor& weight, bool adjoint) {
  const int lanes = adjoint ? 1 : 0, rows = adjoint ? 0 : 1;
  return {
      const_cast<float*>(weight.const_data_ptr<float>()),
      weight.size(lanes),
      weight.size(rows),
      weight.stride(lanes),
      weight.stride(rows),
      weight.stride(2),
      weight.stride(3)};
}

TransformedTiles transformed_filters(const at::Tensor& transformed, const Filters& filters) {
  return {const_cast<float*>(transformed.const_data_ptr<float>()), transformed.size(1), filled_up(filters.rows)};
}

at::Tensor transform_weight(const at::Tensor& weight, int64_t tile, bool adjoint) {
  const Filters filters = filters_of(weight, adjoint);
  const int64_t panels = panels_of(filters.lanes), rows = filled_up(filters.rows);
  at::Tensor transformed = at::empty({components_of(tile), component_stride(rows, panels)}, weight.options());
  const TransformedTiles target = transformed_filters(transformed, filters);
  for (int64_t e = 0; e < components_of(tile); ++e) {
    std::fill_n(target.data + (e + 1) * target.component - panel_size, panel_size, 0.0f);
  }
  const Kernels& kernels = active_kernels();
  const int64_t parts = panels_of(filters.rows);
  at::parallel_for(0, panels * parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = i % parts * panel_size;
      kernels.winograd.filters(static_cast<int>(tile), filters, target, i / parts, {first, first + panel_size});
    }
  });
  return transformed;
}

// How the tiles of a batch are gone through. Nothing here depends on the number of threads: sums are the same for any.
class Plan {
 public:
  Plan(at::IntArrayRef images, int64_t in, int64_t out, int64_t tile, bool weight_grad = false)
      : tile(static_cast<int>(tile)),
        components(components_of(tile)),
        in(panels_of(in)),
        out(panels_of(out)),
        per_image(divided_up(images[2], tile) * divided_up(images[3], tile)),
        tiles(images[0] * per_image),
        kept_filters_(weight_grad ? kept_sums : kept_filters) {}

  // Whether each thread takes blocks of tiles through all components, for which the transformed filters must stay in
  // its cache; else all threads share the components of large blocks.
  bool by_blocks() const { return components * in * out * panel_size * panel_size <= kept_filters_; }

  int64_t block(int64_t panels) const {
    const int64_t one = components * panels * panel_size;
    const int64_t shared = std::max(shared_rows / (std::max(in, out) * panel_size), fewest_shared);
    return std::clamp<int64_t>(by_blocks() ? kept_tiles / one : shared, 1, tiles);
  }

  // Of whole images, because their tiles overlap.
  int64_t block_of_images(int64_t panels) const {
    return std::min(std::max<int64_t>(block(panels) / per_image, 1) * per_image, tiles);
  }

  const int tile;
  const int64_t components, in, out, per_image, tiles;

 private:
  // In elements, and measured where the second cache holds 2^19 of them. The filters' gradient, which each block reads
  // and writes, must be smaller than filters that are only read.
  static constexpr int64_t kept_filters = 768 << 10, kept_sums = 256 << 10, kept_tiles = 256 << 10;
  static constexpr int64_t shared_rows = 32 << 10, fewest_shared = 128;

  const int64_t kept_filters_;
};

// Memory for the transformed tiles of a block, of several kinds, for each thread that works on its own blocks. Threads
// get it at once, from the one that calls the op.
class Scratch {
 public:
  Scratch(
      const Plan& plan, int64_t tiles, std::initializer_list<int64_t> panels, int64_t threads, const at::Tensor& like)
      : plan_(plan), tiles_(tiles), panels_(panels) {
    for (const int64_t p : panels_) size_ += plan.components * component_stride(tiles, p);
    memory_ = at::empty({threads, size_}, like.options().memory_format(at::MemoryFormat::Contiguous));
  }

  TransformedTiles of(int64_t thread, size_t kind) const {
    int64_t offset = thread * size_;
    for (size_t k = 0; k < kind; ++k) offset += plan_.components * component_stride(tiles_, panels_[k]);
    return {memory_.mutable_data_ptr<float>() + offset, component_stride(tiles_, panels_[kind]), tiles_};
  }

 private:
  const Plan& plan_;
  int64_t tiles_, size_ = 0;
  std::vector<int64_t> panels_;
  at::Tensor memory_;
};

// Panel `panel` of c = a filters, for one component.
void multiply(
    const Kernels& kernels, const TransformedTiles& a, const TransformedTiles& filters,
    const TransformedTiles& c, int64_t tiles, int64_t component, int64_t panel) {
  kernels.multiply(
      {panel_of(a, component, 0), a.tiles * panel_size, false, panel_of(filters, component, panel),
       panel_of(c, component, panel), tiles, filters.tiles, false});
}

// Panel `panel` of the filters' gradient: (+)= a^T b, for one component.
void multiply_transposed(
    const Kernels& kernels, const TransformedTiles& a, const TransformedTiles& b,
    const TransformedTiles& filters, int64_t tiles, int64_t component, int64_t panel, bool accumulate) {
  kernels.multiply(
      {panel_of(a, component, 0), a.tiles * panel_size, true, panel_of(b, component, panel),
       panel_of(filters, component, panel), filters.tiles, tiles, accumulate});
}

at::Tensor winograd_weight(const at::Tensor& weight, int64_t tile, bool adjoint) {
  check_filters("winograd_weight", weight, tile);
  return transform_weight(weight, tile, adjoint);
}

at::Tensor winograd_conv2d(
    const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
    const std::optional<at::Tensor>& transformed, const std::optional<at::Tensor>& /*adjoint*/, int64_t tile,
    bool relu) {
  check_filters(name, weight, tile);
  check_convolved(name, x, weight, bias);
  const at::Tensor dense = with_channels_innermost(x);
  at::Tensor result = empty_images({x.size(0), weight.size(0), x.size(2), x.size(3)}, x);
  if (result.numel() == 0) return result;

  const Plan plan(x.sizes(), x.size(1), weight.size(0), tile);
  const Filters shape = filters_of(weight, false);
  if (transformed) {
    check_transformed(name, *transformed, plan.components, component_stride(plan.in * panel_size, plan.out));
  }
  const at::Tensor filters_memory = transformed ? *transformed : transform_weight(weight, tile, false);
  const TransformedTiles filters = transformed_filters(filters_memory, shape);
  const at::Tensor zeros = at::zeros({x.size(1)}, x.options().memory_format(at::MemoryFormat::Contiguous));
  const at::Tensor added = bias ? bias->contiguous() : at::Tensor();
  const Images in = images_of(dense, zeros), out = images_of(result);
  const WinogradEnd end = {added.defined() ? added.const_data_ptr<float>() : nullptr, relu};
  const Kernels& kernels = active_kernels();

  const int64_t block = plan.block(plan.in + plan.out), blocks = divided_up(plan.tiles, block);
  if (plan.by_blocks()) {
    const Scratch scratch(plan, block, {plan.in, plan.out}, at::get_num_threads(), x);
    at::parallel_for(0, blocks, 1, [&](int64_t first_block, int64_t last_block) {
      const TransformedTiles inputs = scratch.of(at::get_thread_num(), 0), sums = scratch.of(at::get_thread_num(), 1);
      for (int64_t b = first_block; b < last_block; ++b) {
        const int64_t first = b * block, count = std::min(block, plan.tiles - first);
        kernels.winograd.input(plan.tile, in, inputs, {first, count, {0, plan.in}});
        for (int64_t e = 0; e < plan.components; ++e) {
          for (int64_t panel = 0; panel < plan.out; ++panel) {
            multiply(kernels, inputs, filters, sums, count, e, panel);
          }
        }
        kernels.winograd.output(plan.tile, sums, out, end, {first, count, {0, plan.out}});
      }
    });
    return result;
  }
  const Scratch scratch(plan, block, {plan.in, plan.out}, 1, x);
  const TransformedTiles inputs = scratch.of(0, 0), sums = scratch.of(0, 1);
  for (int64_t first = 0; first < plan.tiles; first += block) {
    const int64_t count = std::min(block, plan.tiles - first);
    at::parallel_for(0, count, 1, [&](int64_t begin, int64_t last) {
      TransformedTiles part = inputs;
      part.data += begin * panel_size;
      kernels.winograd.input(plan.tile, in, part, {first + begin, last - begin, {0, plan.in}});
    });
    at::parallel_for(0, plan.components * plan.out, 1, [&](int64_t begin, int64_t last) {
      for (int64_t i = begin; i < last; ++i) {
        multiply(kernels, inputs, filters, sums, count, i / plan.out, i % plan.out);
      }
    });
    at::parallel_for(0, count, 1, [&](int64_t begin, int64_t last) {
      TransformedTiles part = sums;
      part.data += begin * panel_size;
      kernels.winograd.output(plan.tile, part, out, end, {first + begin, last - begin, {0, plan.out}});
    });
  }
  return result;
}

// The filters' gradient is summed in this many parts, each in the order of its blocks.
constexpr int64_t gradient_parts = 8;

struct Backward {
  const Plan& plan;
  const Kernels& kernels;
  Images in, grad, result, in_grad;
  TransformedTiles filters;

  bool wants_input() const { return in_grad.data != nullptr; }
  bool wants_filters() const { return in.data != nullptr; }
};

// Each thread takes parts of the blocks through all components; gives a filters' gradient per part.
void backward_by_blocks(
    const Backward& of, int64_t block, const TransformedTiles* parts, int64_t count_of_parts, const at::Tensor& like) {
  const Plan& plan = of.plan;
  const int64_t blocks = divided_up(plan.tiles, block);
  const Scratch scratch(plan, block, {plan.in, plan.out}, at::get_num_threads(), like);
  at::parallel_for(0, count_of_parts, 1, [&](int64_t first_part, int64_t last_part) {
    const TransformedTiles inputs = scratch.of(at::get_thread_num(), 0), grads = scratch.of(at::get_thread_num(), 1);
    for (int64_t p = first_part; p < last_part; ++p) {
      const int64_t begin = blocks * p / count_of_parts, end = blocks * (p + 1) / count_of_parts;
      for (int64_t b = begin; b < end; ++b) {
        const int64_t first = b * block, count = std::min(block, plan.tiles - first);
        of.kernels.winograd.output_adjoint(plan.tile, of.grad, of.result, grads, {first, count, {0, plan.out}});
        if (of.wants_filters()) of.kernels.winograd.input(plan.tile, of.in, inputs, {first, count, {0, plan.in}});
        for (int64_t e = 0; e < plan.components; ++e) {
          // The input's gradient takes the place of the inputs.
          if (of.wants_filters()) {
            for (int64_t panel = 0; panel < plan.in; ++panel) {
              multiply_transposed(of.kernels, grads, inputs, parts[p], count, e, panel, b > begin);
            }
          }
          if (of.wants_input()) {
            for (int64_t panel = 0; panel < plan.in; ++panel) {
              multiply(of.kernels, grads, of.filters, inputs, count, e, panel);
            }
          }
        }
        if (of.wants_input()) of.kernels.winograd.input_adjoint(plan.tile, inputs, of.in_grad, {first, count, {0, plan.in}});
      }
    }
  });
}

// All threads share the components of each block.
void backward_by_components(
    const Backward& of, int64_t block, const TransformedTiles& filters_grad, const at::Tensor& like) {
  const Plan& plan = of.plan;
  const Scratch scratch(plan, block, {plan.in, plan.out}, 1, like);
  const TransformedTiles inputs = scratch.of(0, 0), grads = scratch.of(0, 1);
  for (int64_t first = 0; first < plan.tiles; first += block) {
    const int64_t count = std::min(block, plan.tiles - first);
    at::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
      TransformedTiles part = grads;
      part.data += begin * panel_size;
      of.kernels.winograd.output_adjoint(plan.tile, of.grad, of.result, part, {first + begin, end - begin, {0, plan.out}});
      if (!of.wants_filters()) return;
      part = inputs;
      part.data += begin * panel_size;
      of.kernels.winograd.input(plan.tile, of.in, part, {first + begin, end - begin, {0, plan.in}});
    });
    at::parallel_for(0, plan.components * plan.in, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t e = i / plan.in, panel = i % plan.in;
        if (of.wants_filters()) {
          multiply_transposed(of.kernels, grads, inputs, filters_grad, count, e, panel, first > 0);
        }
        if (of.wants_input()) multiply(of.kernels, grads, of.filters, inputs, count, e, panel);
      }
    });
    if (!of.wants_input()) continue;
    at::parallel_for(0, count / plan.per_image * plan.in, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t image = i / plan.in * plan.per_image, panel = i % plan.in;
        TransformedTiles part = inputs;
        part.data += image * panel_size;
        of.kernels.winograd.input_adjoint(plan.tile, part, of.in_grad, {first + image, plan.per_image, {panel, panel + 1}});
      }
    });
  }
}

// The gradient of the weight from that of the transformed filters, in parts that are added here, in order.
void finish_weight_grad(
    const Plan& plan, const Kernels& kernels, const at::Tensor& grad, const TransformedTiles* parts,
    int64_t count_of_parts) {
  const Filters filters = filters_of(grad, true);
  const int64_t row_parts = plan.out;
  at::parallel_for(0, plan.in * row_parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t panel = i / row_parts, first = i % row_parts * panel_size;
      for (int64_t e = 0; e < plan.components; ++e) {
        float* const sums = panel_of(parts[0], e, panel) + first * panel_size;
        for (int64_t p = 1; p < count_of_parts; ++p) {
          const float* const added = panel_of(parts[p], e, panel) + first * panel_size;
          for (int64_t k = 0; k < panel_size * panel_size; ++k) sums[k] += added[k];
        }
      }
      const Range rows = {first, std::min(first + panel_size, filters.rows)};
      kernels.winograd.filters_adjoint(plan.tile, parts[0], filters, panel, rows);
    }
  });
}

at::Tensor bias_grad_of(
    const Kernels& kernels, const Images& grad, const Images& result, const at::Tensor& of) {
  const int64_t channels = of.size(1), pixels = of.numel() / std::max<int64_t>(channels, 1);
  const int64_t parts = std::min<int64_t>(gradient_parts, std::max<int64_t>(pixels, 1));
  std::vector<double> sums(parts * channels, 0.0);
  at::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      kernels.winograd.channel_sums(grad, result, {pixels * p / parts, pixels * (p + 1) / parts}, &sums[p * channels]);
    }
  });
  at::Tensor total = at::empty({channels}, of.options().memory_format(at::MemoryFormat::Contiguous));
  float* const totals = total.mutable_data_ptr<float>();
  for (int64_t c = 0; c < channels; ++c) {
    for (int64_t p = 1; p < parts; ++p) sums[c] += sums[p * channels + c];
    totals[c] = static_cast<float>(sums[c]);
  }
  return total;
}

std::vector<at::Tensor> winograd_conv2d_backward(
    const at::Tensor& grad, const std::optional<at::Tensor>& x, const at::Tensor& weight,
    const std::optional<at::Tensor>& result, const std::optional<at::Tensor>& adjoint, int64_t tile, bool x_grad,
    bool weight_grad, bool bias_grad) {
  check_filters(name, weight, tile);
  check_convolution_grad(name, grad, x, weight, result, weight_grad);
  const at::IntArrayRef sizes = grad.sizes();
  const int64_t in = weight.size(1), out = weight.size(0);
  std::vector<at::Tensor> grads;
  if (x_grad) grads.push_back(empty_images({sizes[0], in, sizes[2], sizes[3]}, grad));
  if (weight_grad) grads.push_back(at::empty_like(weight));
  if (grads.empty() && !bias_grad) return grads;

  const at::Tensor dense = with_channels_innermost(grad);
  const at::Tensor cut = result ? with_channels_innermost(*result) : at::Tensor();
  const at::Tensor zeros = at::zeros({std::max(in, out)}, grad.options().memory_format(at::MemoryFormat::Contiguous));
  const Plan plan(sizes, in, out, tile, weight_grad);
  const Kernels& kernels = active_kernels();
  const Images no_images = {};
  const Images grad_images = images_of(dense, zeros), results = result ? images_of(cut, zeros) : no_images;

  if (grad.numel() == 0) {
    for (at::Tensor& g : grads) g.zero_();
  } else if (!grads.empty()) {
    const at::Tensor inputs = weight_grad ? with_channels_innermost(*x) : at::Tensor();
    at::Tensor filters_memory;
    const Filters shape = filters_of(weight, true);
    const int64_t component = component_stride(plan.out * panel_size, plan.in);
    if (x_grad) {
      if (adjoint) check_transformed(name, *adjoint, plan.components, component);
      filters_memory = adjoint ? *adjoint : transform_weight(weight, tile, true);
    }
    const Backward of = {
        plan,
        kernels,
        weight_grad ? images_of(inputs, zeros) : no_images,
        grad_images,
        results,
        x_grad ? images_of(grads.front()) : no_images,
        x_grad ? transformed_filters(filters_memory, shape) : TransformedTiles{}};
    const int64_t panels = plan.in + plan.out;
    const int64_t block = x_grad ? plan.block_of_images(panels) : plan.block(panels);
    const int64_t blocks = divided_up(plan.tiles, block);
    const int64_t parts = !plan.by_blocks() ? 1 : weight_grad ? std::min(gradient_parts, blocks) : blocks;
    at::Tensor sums;
    std::vector<TransformedTiles> filters_grads;
    if (weight_grad) {
      sums = at::empty(
          {parts, plan.components, component}, weight.options().memory_format(at::MemoryFormat::Contiguous));
      for (int64_t p = 0; p < parts; ++p) filters_grads.push_back(transformed_filters(sums[p], shape));
    }
    if (plan.by_blocks()) {
      backward_by_blocks(of, block, filters_grads.data(), parts, grad);
    } else {
      backward_by_components(of, block, weight_grad ? filters_grads[0] : TransformedTiles{}, grad);
    }
    if (weight_grad) finish_weight_grad(plan, kernels, grads.back(), filters_grads.data(), parts);
  }
  if (bias_grad) grads.push_back(bias_grad_of(kernels, grad_images, results, dense));
  return grads;
}

TORCH_LIBRARY_IMPL(dfad_fast, CPU, m) {
  m.impl("winograd_weight", winograd_weight);
  m.impl("winograd_conv2d", winograd_conv2d);
  m.impl("winograd_conv2d_backward", winograd_conv2d_backward);
}

}  // namespace
}  // namespace dfad::cpu
