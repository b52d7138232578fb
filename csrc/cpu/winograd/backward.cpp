#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include "../../checks.h"
#include "winograd.h"

namespace dfad::cpu::winograd {
namespace {

// Panel `panel` of the filters' gradient: (+)= a^T b, for one component.
void multiply_transposed(
    const Kernels& kernels, const TransformedTiles& a, const TransformedTiles& b,
    const TransformedTiles& filters, int64_t tiles, int64_t component, int64_t panel, bool accumulate) {
  kernels.multiply(
      {panel_of(a, component, 0), a.tiles * panel_size, true, panel_of(b, component, panel),
       panel_of(filters, component, panel), filters.tiles, tiles, accumulate});
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
  m.impl("winograd_conv2d_backward", winograd_conv2d_backward);
}

}  // namespace
}  // namespace dfad::cpu::winograd
