#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/cat.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>

#include "../ops.h"
#include "once.h"

namespace dfad::autograd {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr const char* name = "channel_statistics";

// The columns of these features' channels, where not all features are wanted.
at::Tensor columns(const at::Tensor& of_all, const variable_list& features, const std::vector<bool>& wanted) {
  if (std::find(wanted.begin(), wanted.end(), false) == wanted.end()) return of_all;
  variable_list parts;
  int64_t begin = 0;
  for (size_t k = 0; k < features.size(); ++k) {
    const int64_t channels = features[k].size(1);
    if (wanted[k]) parts.push_back(of_all.narrow(1, begin, channels));
    begin += channels;
  }
  return at::cat(parts, 1);
}

class ChannelStatistics : public torch::autograd::Function<ChannelStatistics> {
 public:
  static at::Tensor forward(AutogradContext* ctx, at::TensorList features, at::Tensor* statistics) {
    variable_list tensors;
    for (const at::Tensor& x : features) tensors.push_back(savable(x));
    tensors.push_back(*statistics);
    ctx->save_for_backward(std::move(tensors));
    return std::move(*statistics);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grad) {
    variable_list features = ctx->get_saved_variables();
    const at::Tensor statistics = std::move(features.back());
    features.pop_back();
    std::vector<bool> wanted;
    variable_list chosen;
    for (size_t k = 0; k < features.size(); ++k) {
      wanted.push_back(ctx->needs_input_grad(k));
      if (wanted[k]) chosen.push_back(features[k]);
    }
    const auto results = ops::channel_statistics_backward(
        columns(grad[0], features, wanted), chosen, columns(statistics, features, wanted));
    variable_list grads(features.size() + 1);
    for (size_t k = 0, next = 0; k < features.size(); ++k) {
      if (wanted[k]) grads[k] = results[next++];
    }
    return grads;
  }
};

at::Tensor channel_statistics(at::TensorList features) {
  at::Tensor statistics;
  {
    at::AutoDispatchBelowADInplaceOrView guard;
    statistics = ops::channel_statistics(features);
  }
  if (!at::GradMode::is_enabled() || std::none_of(features.begin(), features.end(), needs_node)) return statistics;
  return ChannelStatistics::apply(features, &statistics);
}

std::vector<at::Tensor> channel_statistics_backward(
    const at::Tensor& grad, at::TensorList features, const at::Tensor& statistics) {
  std::vector<at::Tensor> grads;
  {
    at::AutoDispatchBelowADInplaceOrView guard;
    grads = ops::channel_statistics_backward(grad, features, statistics);
  }
  if (!at::GradMode::is_enabled()) return grads;
  variable_list inputs = features.vec();
  inputs.push_back(grad);
  return once_differentiable(name, inputs, std::move(grads));
}

TORCH_LIBRARY_IMPL(dfad_fast, Autograd, m) {
  m.impl("channel_statistics", channel_statistics);
  m.impl("channel_statistics_backward", channel_statistics_backward);
}

}  // namespace
}  // namespace dfad::autograd
