#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include "../../checks.h"
#include "generator_block.h"

namespace dfad::cpu {
namespace {

constexpr const char* name = "generator_block";
constexpr int64_t statistics_rows = 256;

void check_vector(const OptionalTensor& x, const char* what, int64_t size) {
  TORCH_CHECK_VALUE(
      !x || (x->dim() == 1 && x->size(0) == size && x->scalar_type() == at::kFloat), name, ": ", what,
      " must be a float32 tensor of shape [", size, "]");
}

void check_statistics(const at::Tensor& x, int64_t channels) {
  TORCH_CHECK_VALUE(
      x.sizes() == at::IntArrayRef({2, channels}) && x.scalar_type() == at::kFloat, name,
      ": statistics must be a float32 tensor of shape [2, ", channels, "], got ", x.sizes());
}

void check(
    const at::Tensor& x, const OptionalTensor& norm_weight, const OptionalTensor& norm_bias, const at::Tensor& weight,
    const OptionalTensor& bias, int64_t upsample) {
  TORCH_CHECK_VALUE(
      x.dim() == 4 && x.scalar_type() == at::kFloat, name, ": x must be a float32 tensor of shape [B, C, H, W]");
  TORCH_CHECK_VALUE(
      weight.dim() == 4 && weight.size(1) == x.size(1) && weight.size(2) == 3 && weight.size(3) == 3 &&
          weight.scalar_type() == at::kFloat,
      name, ": weight must be a float32 tensor of shape [channels, ", x.size(1), ", 3, 3], got ", weight.sizes());
  TORCH_CHECK_VALUE(
      x.size(0) * x.size(2) * x.size(3) > 1, name, ": a batch norm needs more than one value per channel, got x ",
      x.sizes());
  TORCH_CHECK_VALUE(
      x.size(1) > 0 && weight.size(0) > 0, name, ": there must be at least one channel, got x ", x.sizes(),
      " and weight ", weight.sizes());
  TORCH_CHECK_VALUE(upsample == 1 || upsample == 2, name, ": upsample must be 1 or 2, got ", upsample);
  check_vector(norm_weight, "norm_weight", x.size(1));
  check_vector(norm_bias, "norm_bias", x.size(1));
  check_vector(bias, "bias", weight.size(0));
}

at::Tensor statistics(const at::Tensor& x, const Kernels& kernels) {
  const int64_t channels = x.size(1), rows = x.numel() / channels;
  const int64_t parts = (rows + statistics_rows - 1) / statistics_rows;
  Statistics found(parts, channels, x);
  const float* from = x.const_data_ptr<float>();
  at::parallel_for(0, parts, 8, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      const int64_t count = std::min(statistics_rows, rows - p * statistics_rows);
      float* const means = found.means(p, count);
      kernels.block.statistics(from + p * statistics_rows * channels, count, channels, means, found.squares(p));
    }
  });
  return found.joined();
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> generator_block(
    const at::Tensor& input, const OptionalTensor& given, const OptionalTensor& norm_weight,
    const OptionalTensor& norm_bias, const at::Tensor& weight, const OptionalTensor& bias, int64_t upsample,
    double slope, double eps) {
  check(input, norm_weight, norm_bias, weight, bias, upsample);
  if (given) check_statistics(*given, input.size(1));
  const at::Tensor x = input.contiguous(at::MemoryFormat::ChannelsLast);
  const Kernels& kernels = active_kernels();
  const at::Tensor found = given ? given->clone() : statistics(x, kernels);
  const Norm norm(found, norm_weight, norm_bias, slope, eps);
  const at::Tensor biases = bias ? bias->contiguous() : at::zeros({weight.size(0)}, x.options());
  at::Tensor out = at::empty(
      {x.size(0), weight.size(0), x.size(2) * upsample, x.size(3) * upsample}, x.options(),
      at::MemoryFormat::ChannelsLast);
  const BlockForward pass = {kernels, norm, x, weight, biases.const_data_ptr<float>(), out};
  at::Tensor of_output = upsample == 2 ? upsampled_forward(pass) : plain_forward(pass);
  return {out, found, of_output};
}

at::Tensor to_tensor(const std::vector<double>& values, const at::Tensor& like) {
  at::Tensor out = at::empty({static_cast<int64_t>(values.size())}, like.options());
  std::copy(values.begin(), values.end(), out.mutable_data_ptr<float>());
  return out;
}

std::vector<at::Tensor> generator_block_backward(
    const at::Tensor& grad, const at::Tensor& input, const at::Tensor& statistics, const OptionalTensor& norm_weight,
    const OptionalTensor& norm_bias, const at::Tensor& weight, int64_t upsample, double slope, double eps,
    std::array<bool, 5> wanted) {
  check(input, norm_weight, norm_bias, weight, std::nullopt, upsample);
  const int64_t in = input.size(1), out = weight.size(0);
  TORCH_CHECK_VALUE(
      grad.scalar_type() == at::kFloat &&
          grad.sizes() ==
              at::IntArrayRef({input.size(0), out, input.size(2) * upsample, input.size(3) * upsample}),
      name, ": grad must be a float32 tensor of the output's shape, got ", grad.sizes());
  check_statistics(statistics, in);
  const auto [x_wanted, norm_weight_wanted, norm_bias_wanted, weight_wanted, bias_wanted] = wanted;
  const Kernels& kernels = active_kernels();
  const Norm norm(statistics, norm_weight, norm_bias, slope, eps);
  const at::Tensor x = input.contiguous(at::MemoryFormat::ChannelsLast);
  const at::Tensor grads = grad.contiguous(at::MemoryFormat::ChannelsLast);
  const int64_t items = upsample == 2 ? upsampled_items(x) : x.size(0) * x.size(2);
  const int64_t chunks = std::min(items, most_chunks), weights = 9 * in * out;
  BlockBackward pass = {
      kernels, norm, grads, x, weight, {}, {}, weight_wanted, bias_wanted, std::vector<Sums>(chunks, Sums(in, out))};
  if (x_wanted || norm_weight_wanted || norm_bias_wanted) pass.x_grad = at::empty_like(x);
  if (weight_wanted) pass.weight_grads = at::empty({chunks, weights}, x.options());
  const bool narrow = upsample == 1 && is_narrow(weight);
  if (upsample == 2) {
    upsampled_backward(pass);
  } else if (narrow) {
    narrow_backward(pass);
  } else {
    plain_backward(pass);
  }
  Sums total(in, out);
  for (const Sums& part : pass.sums) total.add(part);

  std::vector<at::Tensor> results;
  if (x_wanted) {
    const int64_t rows = x.numel() / in;
    std::vector<float> mean_grad(in), mean_product(in);
    for (int64_t c = 0; c < in; ++c) {
      mean_grad[c] = static_cast<float>(total.grads[c] / static_cast<double>(rows));
      mean_product[c] = static_cast<float>(total.products[c] / static_cast<double>(rows));
    }
    if (narrow) {
      narrow_input_gradient(pass, mean_grad.data(), mean_product.data());
    } else {
      const float* from = x.const_data_ptr<float>();
      float* const dx = pass.x_grad.mutable_data_ptr<float>();
      at::parallel_for(0, rows, statistics_rows, [&](int64_t begin, int64_t end) {
        kernels.block.norm_gradient(
            norm.get(), from + begin * in, end - begin, mean_grad.data(), mean_product.data(), dx + begin * in);
      });
    }
    results.push_back(pass.x_grad);
  }
  if (norm_weight_wanted) results.push_back(to_tensor(total.products, x));
  if (norm_bias_wanted) results.push_back(to_tensor(total.grads, x));
  if (weight_wanted) {
    // Into the first chunk, in order: the order in which at::sum adds depends on the threads.
    float* const dw = pass.weight_grads.mutable_data_ptr<float>();
    at::parallel_for(0, in, 1, [&](int64_t begin, int64_t end) {
      for (int64_t chunk = 1; chunk < chunks; ++chunk) {
        kernels.block.add_rows(
            dw + chunk * weights + begin * 9 * out, 1, (end - begin) * 9 * out, dw + begin * 9 * out);
      }
    });
    const at::Tensor summed = pass.weight_grads[0].view({in, 3, 3, out});
    results.push_back(at::empty_like(weight).copy_(summed.permute({3, 0, 1, 2})));
  }
  if (bias_wanted) results.push_back(to_tensor(total.outputs, x));
  return results;
}

TORCH_LIBRARY_IMPL(dfad_fast, CPU, m) {
  m.impl("generator_block", generator_block);
  m.impl("generator_block_backward", generator_block_backward);
}

}  // namespace
}  // namespace dfad::cpu
