#include "build.h"

namespace dfad::cuda {

std::string version() {
  return std::to_string(__CUDACC_VER_MAJOR__) + "." + std::to_string(__CUDACC_VER_MINOR__);
}

std::vector<std::string> architectures() {
  std::vector<std::string> names;
  for (const int arch : {__CUDA_ARCH_LIST__}) {
    names.push_back(std::to_string(arch / 100) + "." + std::to_string(arch / 10 % 10));
  }
  return names;
}

}  // namespace dfad::cuda
