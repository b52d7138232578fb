#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace dfad::autograd {

// Whether an op has to record a node: for a gradient, or to let forward-mode differentiation fail with a clear error.
bool needs_node(const at::Tensor& x);

// Neither backward nor forward mode.
void check_lam_has_no_gradient(const char* op, const at::Tensor& lam);

// What save_for_backward can keep of `x`: an inference tensor, such as a teacher's under torch.inference_mode, is copied.
at::Tensor savable(const at::Tensor& x);

// The results of a backward op as they leave the Autograd key: differentiating them again raises an error that names
// the op, instead of silently giving no gradient. `inputs` are what they depend on.
std::vector<at::Tensor> once_differentiable(
    const char* op, at::TensorList inputs, std::vector<at::Tensor> results);

// The same for a node that saved nothing of what its results depend on.
std::vector<at::Tensor> once_differentiable(const char* op, std::vector<at::Tensor> results);

}  // namespace dfad::autograd
