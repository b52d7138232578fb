#pragma once

// What nodes share some of whose inputs may be missing.

#include <ATen/core/Tensor.h>
#include <torch/csrc/autograd/custom_function.h>

#include <array>
#include <optional>
#include <vector>

#include "once.h"

namespace dfad::autograd {

using OptionalTensor = std::optional<at::Tensor>;

// A saved tensor as an op takes it.
inline OptionalTensor optional(const at::Tensor& x) { return x.defined() ? OptionalTensor(x) : std::nullopt; }

inline bool needs_node(const OptionalTensor& x) { return x && needs_node(*x); }

inline at::Tensor savable(const OptionalTensor& x) { return x ? savable(*x) : at::Tensor(); }

// Notes which of the differentiable inputs are there.
template <size_t inputs>
void note_given(torch::autograd::AutogradContext* ctx, const bool (&there)[inputs]) {
  c10::List<bool> given;
  for (const bool is_there : there) given.push_back(is_there);
  ctx->saved_data["given"] = given;
}

// Which of their gradients are wanted: needs_input_grad counts only the inputs that are there.
template <size_t inputs>
std::array<bool, inputs> wanted_gradients(torch::autograd::AutogradContext* ctx) {
  const auto given = ctx->saved_data["given"].toBoolList();
  std::array<bool, inputs> wanted;
  size_t edge = 0;
  for (size_t i = 0; i < inputs; ++i) wanted[i] = given.get(i) && ctx->needs_input_grad(edge++);
  return wanted;
}

// The gradients in their places, from a list of those that are wanted, and empty ones for so many further arguments.
template <size_t inputs>
torch::autograd::variable_list in_places(
    const std::array<bool, inputs>& wanted, const std::vector<at::Tensor>& results, size_t further) {
  torch::autograd::variable_list grads(inputs + further);
  auto next = results.begin();
  for (size_t i = 0; i < inputs; ++i) {
    if (wanted[i]) grads[i] = *next++;
  }
  return grads;
}

}  // namespace dfad::autograd
