#pragma once

#include <string>
#include <vector>

namespace dfad::cuda {

// The toolkit that compiled the kernels, such as "13.0".
std::string version();

// The compute capabilities that they were compiled for, such as "9.0".
std::vector<std::string> architectures();

}  // namespace dfad::cuda
