// A generator's block that upsamples; upsampled.inl has the mathematics.

#include <ATen/ops/empty.h>

#include <array>

#include "../panels.h"
#include "generator_block.h"

namespace dfad::cpu {
namespace {

// Tiles that an item of work has about: their products stay in a core's second-level cache, and are enough for each use
// of the filters.
constexpr int64_t item_tiles = 80;

constexpr int64_t rows_of_differences = 3, columns_of_differences = 4;
constexpr int64_t differences = rows_of_differences * columns_of_differences;
constexpr int64_t sides = 5, products = sides * sides;

// What the products left0, left1, center, right0 and right1 are made of: the difference of rows, and of columns.
constexpr std::array<int64_t, sides> row_difference = {0, 0, 1, 2, 2}, column_difference = {0, 1, 2, 3, 3};

// How the tiles of a batch are cut into items: some whole images, or some rows of tiles of one.
struct Cut {
  int64_t batch, height, width, down, across, images, rows, per_image, count;

  explicit Cut(const at::Tensor& x)
      : batch(x.size(0)),
        height(x.size(2)),
        width(x.size(3)),
        down(height / 2 + 1),
        across((width + 1) / 2),
        images(std::clamp<int64_t>(item_tiles / (down * across), 1, batch)),
        rows(std::clamp<int64_t>(item_tiles / across, 1, down)),
        per_image((down + rows - 1) / rows),
        count((batch + images - 1) / images * per_image) {}

  UpsampledTiles item(int64_t index) const {
    const int64_t image = index / per_image * images, begin = index % per_image * rows;
    return {height, width, image, std::min(images, batch - image), begin, std::min(begin + rows, down)};
  }

  // Rows of the upsampled image.
  Range output_range(const UpsampledTiles& of) const {
    return {std::max<int64_t>(4 * of.begin - 1, 0), std::min(4 * of.end - 1, 2 * height)};
  }

  // The most tiles that an item has, with the rows of tiles around it.
  int64_t most_tiles(int64_t halo) const { return images * std::min(rows + halo, down) * across; }

  // The rows of tiles that have a product.
  Range rows_of(int64_t product) const {
    const int64_t centers = (height + 1) / 2;
    const std::array<Range, sides> all = {
        Range{0, centers}, Range{1, down}, Range{0, centers}, Range{0, height / 2}, Range{0, centers}};
    return all[product];
  }
};

Range common(Range a, Range b) { return {std::max(a.begin, b.begin), std::max(std::min(a.end, b.end), a.begin)}; }

// Memory of a thread, cut into transformed tiles.
class Memory {
 public:
  explicit Memory(const at::Tensor& memory) : next_(memory.mutable_data_ptr<float>()) {}

  TransformedTiles take(int64_t components, int64_t tiles, int64_t panels) {
    const TransformedTiles taken = {next_, component_stride(tiles, panels), tiles};
    next_ += components * taken.component;
    return taken;
  }

 private:
  float* next_;
};

// A column or row of a filter as the five products have it.
std::array<float, sides> filters_of_side(float w0, float w1, float w2) {
  return {w0, w0 + w1, (w0 + w1) + w2, w1 + w2, w2};
}

// Rows [first, first + 32) of one panel of the filters' products: [product][panel of `lanes`][row][lane of the panel].
// `weight` is [channels out, channels in, 3, 3]; its adjoint has the input's channels as lanes.
void filters_of_rows(
    const at::Tensor& weight, bool adjoint, const TransformedTiles& target, int64_t panel, int64_t first) {
  const float* w = weight.const_data_ptr<float>();
  const int lane_dim = adjoint ? 1 : 0, row_dim = adjoint ? 0 : 1;
  const int64_t lanes = weight.size(lane_dim), rows = weight.size(row_dim);
  for (int64_t r = first; r < first + panel_size; ++r) {
    for (int64_t k = 0; k < panel_size; ++k) {
      const int64_t lane = panel * panel_size + k;
      std::array<float, sides> half[3] = {};
      if (r < rows && lane < lanes) {
        const float* const from = w + lane * weight.stride(lane_dim) + r * weight.stride(row_dim);
        for (int64_t j = 0; j < 3; ++j) {
          const float* const column = from + j * weight.stride(3);
          half[j] = filters_of_side(column[0], column[weight.stride(2)], column[2 * weight.stride(2)]);
        }
      }
      for (int64_t a = 0; a < sides; ++a) {
        const std::array<float, sides> all = filters_of_side(half[0][a], half[1][a], half[2][a]);
        for (int64_t b = 0; b < sides; ++b) panel_of(target, a * sides + b, panel)[r * panel_size + k] = all[b];
      }
    }
  }
}

class ProductFilters {
 public:
  ProductFilters(const at::Tensor& weight, bool adjoint)
      : panels_(panels_of(weight.size(adjoint ? 1 : 0))), rows_(filled_up(weight.size(adjoint ? 0 : 1))) {
    memory_ = at::empty({products, component_stride(rows_, panels_)}, weight.options());
    const TransformedTiles target = tiles();
    const int64_t parts = rows_ / panel_size;
    at::parallel_for(0, panels_ * parts, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        filters_of_rows(weight, adjoint, target, i / parts, i % parts * panel_size);
      }
    });
  }

  TransformedTiles tiles() const {
    return {memory_.mutable_data_ptr<float>(), component_stride(rows_, panels_), rows_};
  }

 private:
  int64_t panels_, rows_;
  at::Tensor memory_;
};

// The gradient of the weight, [channels in, 9, channels out], from that of the products' filters.
void weight_gradient(const TransformedTiles& filters, int64_t in, int64_t out, float* grad) {
  for (int64_t c = 0; c < in; ++c) {
    for (int64_t first = 0; first < out; first += panel_size) {
      const float* from[products];
      for (int64_t p = 0; p < products; ++p) {
        from[p] = panel_of(filters, p, first / panel_size) + c * panel_size;
      }
      const int64_t lanes = std::min(panel_size, out - first);
      for (int64_t i = 0; i < 3; ++i) {
        for (int64_t j = 0; j < 3; ++j) {
          const float* const* const corner = from + i * sides + j;
          float* const to = grad + (c * 9 + i * 3 + j) * out + first;
          for (int64_t k = 0; k < lanes; ++k) {
            const auto row = [&](int64_t a) {
              return (corner[a * sides][k] + corner[a * sides + 1][k]) + corner[a * sides + 2][k];
            };
            to[k] = (row(0) + row(1)) + row(2);
          }
        }
      }
    }
  }
}

// Where rows of tiles lie in memory that begins with row `first`.
struct Rows {
  int64_t first, length;  // tiles of a row, of all images

  int64_t tiles(Range rows) const { return (rows.end - rows.begin) * length; }
  int64_t offset(Range rows) const { return (rows.begin - first) * length * panel_size; }
};

// Panel `panel` of the differences' gradients; `at` begins with the row of tiles before the item's, if there is one.
void multiply_adjoint(
    const Kernels& kernels, const Cut& cut, const TransformedTiles& grads, const TransformedTiles& filters,
    const TransformedTiles& target, const UpsampledTiles& of, const Rows& at, int64_t panel) {
  // What the first of two products of a difference has written, the second one adds to.
  constexpr std::array<std::array<int64_t, 2>, 4> terms = {{{0, -1}, {1, -1}, {2, -1}, {4, 3}}};
  constexpr std::array<std::array<int64_t, 2>, 3> row_terms = {{{0, 1}, {2, -1}, {4, 3}}};
  for (int64_t i = 0; i < rows_of_differences; ++i) {
    const Range wanted = {i == 2 ? at.first : of.begin, of.end};
    for (int64_t j = 0; j < columns_of_differences; ++j) {
      Range written = {wanted.begin, wanted.begin};
      for (const int64_t a : row_terms[i]) {
        if (a < 0) continue;
        const Range rows = common(wanted, cut.rows_of(a));
        // Left0 has rows from 0 on, left1 from 1 on and one more at the end.
        const Range again = {rows.begin, std::clamp(written.end, rows.begin, rows.end)};
        const Range fresh = {again.end, rows.end};
        bool first_column = true;
        for (const int64_t b : terms[j]) {
          if (b < 0) continue;
          const auto run = [&](Range part, bool accumulate) {
            if (part.begin >= part.end) return;
            kernels.multiply(
                {panel_of(grads, a * sides + b, 0) + at.offset(part), grads.tiles * panel_size, false,
                 panel_of(filters, a * sides + b, panel),
                 panel_of(target, i * columns_of_differences + j, 0) + at.offset(part), at.tiles(part), filters.tiles,
                 accumulate});
          };
          run(again, true);
          run(fresh, !first_column);
          first_column = false;
        }
        written.end = std::max(written.end, rows.end);
      }
    }
  }
}

}  // namespace

int64_t upsampled_items(const at::Tensor& x) { return Cut(x).count; }

at::Tensor upsampled_forward(const BlockForward& pass) {
  const Cut cut(pass.x);
  const int64_t in = pass.x.size(1), out = pass.weight.size(0);
  const ProductFilters filters_memory(pass.weight, false);
  const TransformedTiles filters = filters_memory.tiles();
  const Kernels& kernels = pass.kernels;
  const float* x = pass.x.const_data_ptr<float>();
  float* y = pass.out.mutable_data_ptr<float>();
  const bool streamed = pass.out.numel() > streamed_floats;
  Statistics of_output(cut.count, out, pass.x);
  const int64_t most = cut.most_tiles(0);
  const auto prepare = [&] {
    return scratch(
        pass.x, differences * component_stride(most, panels_of(in)) + products * component_stride(most, 1));
  };
  share_out(cut.count, prepare, [&](int64_t index, const at::Tensor& floats) {
    const UpsampledTiles of = cut.item(index);
    const Rows at = {of.begin, of.images * cut.across};
    Memory memory(floats);
    const TransformedTiles inputs = memory.take(differences, most, panels_of(in));
    const TransformedTiles made = memory.take(products, most, 1);
    kernels.upsampled.input(pass.norm.get(), x, of, inputs);
    const Range rows_made = cut.output_range(of);
    float* const means = of_output.means(index, of.images * (rows_made.end - rows_made.begin) * 2 * cut.width);
    for (int64_t panel = 0; panel < panels_of(out); ++panel) {
      for (int64_t a = 0; a < sides; ++a) {
        const Range rows = common({of.begin, of.end}, cut.rows_of(a));
        if (rows.begin >= rows.end) continue;
        for (int64_t b = 0; b < sides; ++b) {
          const int64_t difference = row_difference[a] * columns_of_differences + column_difference[b];
          kernels.multiply(
              {panel_of(inputs, difference, 0) + at.offset(rows), inputs.tiles * panel_size, false,
               panel_of(filters, a * sides + b, panel), panel_of(made, a * sides + b, 0) + at.offset(rows),
               at.tiles(rows), filters.tiles, false});
        }
      }
      kernels.upsampled.output(made, of, panel, pass.bias, y, out, streamed, means, of_output.squares(index));
    }
  });
  return of_output.joined();
}

void upsampled_backward(BlockBackward& pass) {
  const Cut cut(pass.x);
  const int64_t in = pass.x.size(1), out = pass.weight.size(0), in_panels = panels_of(in), out_panels = panels_of(out);
  const int64_t filter_rows = filled_up(in), chunks = static_cast<int64_t>(pass.sums.size());
  const std::optional<ProductFilters> adjoint =
      pass.below() ? std::optional<ProductFilters>(std::in_place, pass.weight, true) : std::nullopt;
  const Kernels& kernels = pass.kernels;
  const float *x = pass.x.const_data_ptr<float>(), *dy = pass.grad.const_data_ptr<float>();
  float* dx = pass.below() ? pass.x_grad.mutable_data_ptr<float>() : nullptr;
  float* dw = pass.weight_wanted ? pass.weight_grads.mutable_data_ptr<float>() : nullptr;
  const int64_t most = cut.most_tiles(1);
  const auto prepare = [&] {
    int64_t floats = products * component_stride(most, out_panels);
    if (pass.below()) floats += differences * component_stride(most, 1);
    if (pass.weight_wanted) {
      floats += differences * component_stride(most, in_panels) + products * component_stride(filter_rows, out_panels);
    }
    return scratch(pass.x, floats);
  };
  share_out(chunks, prepare, [&](int64_t chunk, const at::Tensor& floats) {
    Memory memory(floats);
    const TransformedTiles grads = memory.take(products, most, out_panels);
    TransformedTiles input_grads, inputs, filter_grads;
    if (pass.below()) input_grads = memory.take(differences, most, 1);
    if (pass.weight_wanted) {
      inputs = memory.take(differences, most, in_panels);
      filter_grads = memory.take(products, filter_rows, out_panels);
      std::fill_n(filter_grads.data, products * filter_grads.component, 0.0f);
    }
    std::vector<float> grad_sums(in), products_sums(in), output_sums(out);
    Sums& sums = pass.sums[chunk];
    for (int64_t index = chunk * cut.count / chunks; index < (chunk + 1) * cut.count / chunks; ++index) {
      const UpsampledTiles of = cut.item(index);
      UpsampledTiles with_halo = of;
      if (pass.below() && of.begin > 0) --with_halo.begin;
      const Rows at = {with_halo.begin, of.images * cut.across}, inside = {of.begin, at.length};
      kernels.upsampled.output_adjoint(dy, with_halo, out, grads);
      if (pass.below()) {
        for (int64_t panel = 0; panel < in_panels; ++panel) {
          multiply_adjoint(kernels, cut, grads, adjoint->tiles(), input_grads, of, at, panel);
          kernels.upsampled.input_adjoint(
              pass.norm.get(), x, input_grads, of, panel, dx, grad_sums.data(), products_sums.data());
        }
        add_to(sums.grads, grad_sums);
        add_to(sums.products, products_sums);
      }
      if (pass.weight_wanted) {
        kernels.upsampled.input(pass.norm.get(), x, of, inputs);
        for (int64_t a = 0; a < sides; ++a) {
          const Range rows = common({of.begin, of.end}, cut.rows_of(a));
          if (rows.begin >= rows.end) continue;
          for (int64_t b = 0; b < sides; ++b) {
            const int64_t difference = row_difference[a] * columns_of_differences + column_difference[b];
            for (int64_t panel = 0; panel < out_panels; ++panel) {
              kernels.multiply(
                  {panel_of(inputs, difference, 0) + inside.offset(rows), inputs.tiles * panel_size, true,
                   panel_of(grads, a * sides + b, panel) + at.offset(rows),
                   panel_of(filter_grads, a * sides + b, panel), filter_rows, at.tiles(rows), true});
            }
          }
        }
      }
      if (pass.bias_wanted) {
        const Range made = cut.output_range(of);
        for (int64_t i = of.image; i < of.image + of.images; ++i) {
          const int64_t row = 2 * cut.width;
          kernels.block.add_rows(
              dy + (i * 2 * cut.height + made.begin) * row * out, (made.end - made.begin) * row, out,
              output_sums.data());
        }
        add_to(sums.outputs, output_sums);
      }
    }
    if (pass.weight_wanted) weight_gradient(filter_grads, in, out, dw + chunk * in * 9 * out);
  });
}

}  // namespace dfad::cpu
