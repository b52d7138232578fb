// The Python module: what was built, and which instruction-set tier runs. The ops are reached through torch.ops.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <torch/headeronly/version.h>

#include "cpu/tiers.h"
#if defined(DFAD_WITH_CUDA)
#include "cuda/build.h"
#endif

namespace {

pybind11::dict build_info() {
  pybind11::dict info;
  info["torch"] = TORCH_VERSION;
  info["compiler"] = __VERSION__;
#if defined(_OPENMP)
  info["openmp"] = true;
#else
  info["openmp"] = false;
#endif
#if defined(DFAD_WITH_CUDA)
  info["cuda"] = dfad::cuda::version();
  info["cuda_architectures"] = dfad::cuda::architectures();
#endif
  return info;
}

}  // namespace

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  m.def("build_info", &build_info, "The torch, the compiler and, if any, the CUDA that this extension was built with.");
  m.def("tier", &dfad::cpu::tier, "The instruction-set tier in use.");
  m.def("supported_tiers", &dfad::cpu::supported_tiers, "The tiers that this CPU can run, narrowest first.");
  m.def("set_tier", &dfad::cpu::set_tier, "Choose the tier; ValueError where the CPU lacks it.");
}
