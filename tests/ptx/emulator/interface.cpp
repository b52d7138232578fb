// What Python and the host code of the CUDA kernels call. A function that fails returns -1; ptx_error() says why.
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "../../cuda/shim/launcher.h"
#include "findings.h"
#include "launch.h"
#include "machine.h"
#include "parser.h"
#include "sectors.h"

#define PTX_EXPORT extern "C" __attribute__((visibility("default")))

namespace {

std::mutex one_launch;
std::string error;
std::string answer;  // lives until the next question
std::vector<std::unique_ptr<ptx::Module>> modules;
std::map<const void*, std::pair<int, std::string>> host_kernels;

template <class Body>
int guarded(const Body& body) {
  const std::lock_guard<std::mutex> lock(one_launch);
  try {
    return body();
  } catch (const std::exception& problem) {
    const ptx::Instruction* const at = ptx::machine().current;
    error = problem.what() + (at == nullptr ? std::string() : " (near " + at->text + ")");
    ptx::report_launch(error);
    return -1;
  }
}

}  // namespace

PTX_EXPORT const char* ptx_error() {
  return error.c_str();
}

PTX_EXPORT int ptx_load(const char* text, const char* label) {
  return guarded([&] {
    ptx::machine().current = nullptr;
    modules.push_back(ptx::parse(text, label));
    return static_cast<int>(modules.size()) - 1;
  });
}

PTX_EXPORT const char* ptx_kernels(int module) {
  answer.clear();
  for (const auto& [name, kernel] : modules.at(static_cast<std::size_t>(module))->kernels) answer += name + "\n";
  return answer.c_str();
}

PTX_EXPORT int ptx_launch(
    int module, const char* kernel, unsigned blocks, unsigned threads, std::size_t dynamic_shared, std::size_t count,
    const void* const* values, const std::size_t* bytes) {
  return guarded([&] {
    ptx::Module& known = *modules.at(static_cast<std::size_t>(module));
    ptx::launch(known, kernel, blocks, threads, dynamic_shared, {count, values, bytes});
    return 0;
  });
}

// A later call for the same kernel counts: that is how a mutant takes its place.
PTX_EXPORT void ptx_serve(const void* host_kernel, int module, const char* kernel) {
  host_kernels[host_kernel] = {module, kernel};
}

PTX_EXPORT int ptx_host_launch(const cuda_shim::Launch& launch) {
  const auto found = host_kernels.find(launch.kernel);
  if (found == host_kernels.end()) {
    return guarded([]() -> int { throw std::runtime_error("a kernel whose PTX was not loaded"); });
  }
  const auto& [module, kernel] = found->second;
  return ptx_launch(
      module, kernel.c_str(), launch.blocks, launch.threads, launch.dynamic_shared, launch.count, launch.arguments,
      launch.bytes);
}

PTX_EXPORT void ptx_seed(unsigned seed) {
  ptx::machine().seed = seed;
}

PTX_EXPORT unsigned long long ptx_instructions() {
  return ptx::machine().instructions;
}

PTX_EXPORT void ptx_count_sectors(int wanted) {
  ptx::count_sectors(wanted != 0);
}

PTX_EXPORT const char* ptx_take_findings() {
  answer = ptx::take_findings();
  return answer.c_str();
}

PTX_EXPORT const char* ptx_take_sectors() {
  answer = ptx::take_sectors();
  return answer.c_str();
}
