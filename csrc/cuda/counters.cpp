#include "counters.h"

#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAGraphsC10Utils.h>
#include <c10/cuda/CUDAStream.h>

#include <mutex>
#include <unordered_map>

namespace dfad::cuda {
namespace {

constexpr int64_t lasting_counters = 4096;  // of each device

unsigned* data_of(const at::Tensor& counters) {
  return reinterpret_cast<unsigned*>(counters.mutable_data_ptr<int32_t>());
}

at::Tensor zeros(int64_t count, const at::TensorOptions& options) {
  return at::zeros({count}, options.dtype(at::kInt));
}

// A device's counters, which are cleared once: a launch leaves its own at 0, so that none needs a fill before it.
class LastingCounters {
 public:
  explicit LastingCounters(const at::TensorOptions& options) : counters_(zeros(lasting_counters, options)) {
    c10::cuda::getCurrentCUDAStream().synchronize();  // other streams will not wait for the zeros
  }

  // Null where none is left. A stream's launches run one after another and share one. A graph may be replayed on any
  // stream, beside that one's launches and other graphs, so a captured launch keeps one to itself.
  unsigned* take(const c10::cuda::CUDAStream& stream, bool captured) {
    if (captured) return next();
    const auto [place, is_new] = of_streams_.try_emplace(stream.id(), nullptr);
    if (is_new) place->second = next();
    return place->second;
  }

 private:
  unsigned* next() { return used_ < lasting_counters ? data_of(counters_) + used_++ : nullptr; }

  at::Tensor counters_;
  int64_t used_ = 0;
  std::unordered_map<c10::StreamId, unsigned*> of_streams_;
};

}  // namespace

Counter take_counter(const at::TensorOptions& options) {
  static std::mutex taking;
  // Never destroyed: when the process ends, the driver may be gone before.
  static auto* const of_devices = new std::unordered_map<c10::DeviceIndex, LastingCounters>();
  const auto stream = c10::cuda::getCurrentCUDAStream();
  const bool captured = c10::cuda::currentStreamCaptureStatusMayInitCtx() != c10::cuda::CaptureStatus::None;
  const std::lock_guard<std::mutex> lock(taking);
  auto found = of_devices->find(stream.device_index());
  // Not while capturing, which would put the zeros into the graph.
  if (found == of_devices->end() && !captured) found = of_devices->try_emplace(stream.device_index(), options).first;
  if (found != of_devices->end()) {
    if (unsigned* const counter = found->second.take(stream, captured)) return {counter, {}};
  }
  const at::Tensor own = zeros(1, options);  // costs a fill before each launch
  return {data_of(own), own};
}

}  // namespace dfad::cuda
