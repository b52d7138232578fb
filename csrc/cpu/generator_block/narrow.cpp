// Backward of a generator's block to few channels; narrow.inl says how.

#include "generator_block.h"

namespace dfad::cpu {
namespace {

// Rows of pixels of one image; sums of so many pixels are added up in float.
constexpr int64_t item_pixels = 1024;

struct Cut {
  int64_t batch, height, width, rows, per_image, count;

  explicit Cut(const at::Tensor& x)
      : batch(x.size(0)),
        height(x.size(2)),
        width(x.size(3)),
        rows(std::clamp<int64_t>(item_pixels / width, 1, height)),
        per_image((height + rows - 1) / rows),
        count(batch * per_image) {}
};

// What the items of a block have in common, and where those of one thread write.
class Narrow {
 public:
  explicit Narrow(const BlockBackward& pass)
      : cut(pass.x), in(pass.x.size(1)), out(pass.weight.size(0)), pass_(pass) {
    weights_ = pass.weight.permute({0, 2, 3, 1}).contiguous();
  }

  int64_t scratch_floats() const { return (cut.rows + 2) * (cut.width + 2) * out + cut.width * panel_size; }

  // First pixel of an item.
  int64_t first(int64_t index) const {
    return (index / cut.per_image * cut.height + index % cut.per_image * cut.rows) * cut.width;
  }

  // The output's gradient of the item, with a zero or the neighbor around it, is put into `memory`.
  NarrowRows rows(int64_t index, float* memory, float* weight_sums) const {
    const int64_t image = index / cut.per_image, begin = index % cut.per_image * cut.rows;
    const int64_t rows = std::min(cut.rows, cut.height - begin), line = cut.width * out, padded = line + 2 * out;
    const float* const grad = pass_.grad.const_data_ptr<float>() + image * cut.height * line;
    std::fill_n(memory, (rows + 2) * padded, 0.0f);
    for (int64_t y = std::max<int64_t>(begin - 1, 0); y < std::min(begin + rows + 1, cut.height); ++y) {
      std::copy_n(grad + y * line, line, memory + (y - begin + 1) * padded + out);
    }
    float* const partial = memory + (cut.rows + 2) * (cut.width + 2) * out;
    return {rows, cut.width, out, memory, weights_.const_data_ptr<float>(), weight_sums, partial};
  }

  const Cut cut;
  const int64_t in, out;

 private:
  const BlockBackward& pass_;
  at::Tensor weights_;  // [channels out, 9, channels in]
};

}  // namespace

bool is_narrow(const at::Tensor& weight) {
  constexpr int64_t most_channels = 3;
  return weight.size(0) <= most_channels;
}

void narrow_backward(BlockBackward& pass) {
  const Narrow narrow(pass);
  const int64_t in = narrow.in, out = narrow.out, weights = out * 9 * in;
  const int64_t chunks = static_cast<int64_t>(pass.sums.size()), count = narrow.cut.count;
  const float *x = pass.x.const_data_ptr<float>(), *dy = pass.grad.const_data_ptr<float>();
  float* dw = pass.weight_wanted ? pass.weight_grads.mutable_data_ptr<float>() : nullptr;
  const auto prepare = [&] { return scratch(pass.x, narrow.scratch_floats() + weights); };
  share_out(chunks, prepare, [&](int64_t chunk, const at::Tensor& memory) {
    float *floats = memory.mutable_data_ptr<float>(), *item_weights = floats + narrow.scratch_floats();
    std::vector<float> grad_sums(in), products(in), output_sums(out);
    std::vector<double> weight_sums(pass.weight_wanted ? weights : 0);
    Sums& sums = pass.sums[chunk];
    for (int64_t index = chunk * count / chunks; index < (chunk + 1) * count / chunks; ++index) {
      if (pass.weight_wanted) std::fill_n(item_weights, weights, 0.0f);
      const NarrowRows of = narrow.rows(index, floats, pass.weight_wanted ? item_weights : nullptr);
      const int64_t first = narrow.first(index);
      pass.kernels.narrow.sums(of, pass.norm.get(), x + first * in, grad_sums.data(), products.data());
      add_to(sums.grads, grad_sums);
      add_to(sums.products, products);
      for (size_t i = 0; i < weight_sums.size(); ++i) weight_sums[i] += item_weights[i];
      if (pass.bias_wanted) {
        pass.kernels.block.add_rows(dy + first * out, of.rows * narrow.cut.width, out, output_sums.data());
        add_to(sums.outputs, output_sums);
      }
    }
    for (int64_t i = 0; i < static_cast<int64_t>(weight_sums.size()); ++i) {
      const int64_t c = i % in, tap = i / in % 9, o = i / in / 9;
      dw[chunk * weights + (c * 9 + tap) * out + o] = static_cast<float>(weight_sums[i]);
    }
  });
}

void narrow_input_gradient(const BlockBackward& pass, const float* mean_grad, const float* mean_product) {
  const Narrow narrow(pass);
  const float* x = pass.x.const_data_ptr<float>();
  float* dx = pass.x_grad.mutable_data_ptr<float>();
  const bool streamed = pass.x_grad.numel() > streamed_floats;
  const auto prepare = [&] { return scratch(pass.x, narrow.scratch_floats()); };
  share_out(narrow.cut.count, prepare, [&](int64_t index, const at::Tensor& memory) {
    const NarrowRows of = narrow.rows(index, memory.mutable_data_ptr<float>(), nullptr);
    const int64_t first = narrow.first(index) * narrow.in;
    pass.kernels.narrow.gradient(of, pass.norm.get(), x + first, mean_grad, mean_product, streamed, dx + first);
  });
}

}  // namespace dfad::cpu
