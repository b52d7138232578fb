#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include "../../checks.h"
#include "winograd.h"

namespace dfad::cpu::winograd {

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

namespace {

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

TORCH_LIBRARY_IMPL(dfad_fast, CPU, m) {
  m.impl("winograd_weight", winograd_weight);
  m.impl("winograd_conv2d", winograd_conv2d);
}

}  // namespace
}  // namespace dfad::cpu::winograd
