#include "counters.h"

#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGraphsC10Utils.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime.h>

#include <mutex>
#include <unordered_map>

namespace dfad::cuda {
namespace {

constexpr int64_t lasting_counters = 4096;  // of each device

// Zeros that stay for as long as the process lives. torch's allocator would not do: while it serves a CUDA graph, what it
// gives belongs to that graph. Works while a stream is captured, too, and leaves nothing in the graph.
unsigned* lasting_zeros(int64_t count) {
  const c10::cuda::CUDAStreamCaptureModeGuard relaxed(cudaStreamCaptureModeRelaxed);
  const size_t bytes = count * sizeof(unsigned);
  void* data = nullptr;
  cudaStream_t clearing = nullptr;
  C10_CUDA_CHECK(cudaMalloc(&data, bytes));
  C10_CUDA_CHECK(cudaStreamCreateWithFlags(&clearing, cudaStreamNonBlocking));
  C10_CUDA_CHECK(cudaMemsetAsync(data, 0, bytes, clearing));
  C10_CUDA_CHECK(cudaStreamSynchronize(clearing));  // other streams will not wait for the zeros
  C10_CUDA_CHECK(cudaStreamDestroy(clearing));
  return static_cast<unsigned*>(data);
}

// A device's counters, which are cleared once: a launch leaves its own at 0, so that none needs a fill before it.
class LastingCounters {
 public:
  // Null where none is left. A stream's launches run one after another and share one. A graph may be replayed on any
  // stream, beside that one's launches and other graphs, so a captured launch keeps one to itself. The stream per thread
  // is another one in each thread, under one number.
  unsigned* take(const c10::cuda::CUDAStream& stream, bool captured) {
    if (captured) return next();
    if (stream.stream() == cudaStreamPerThread) return nullptr;
    const auto [place, is_new] = of_streams_.try_emplace(stream.id(), nullptr);
    if (is_new) place->second = next();
    return place->second;
  }

 private:
  unsigned* next() { return used_ < lasting_counters ? counters_ + used_++ : nullptr; }

  unsigned* const counters_ = lasting_zeros(lasting_counters);
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
  if (unsigned* const counter = (*of_devices)[stream.device_index()].take(stream, captured)) return {counter, {}};
  const at::Tensor own = at::zeros({1}, options.dtype(at::kInt));  // costs a fill before each launch
  return {reinterpret_cast<unsigned*>(own.mutable_data_ptr<int32_t>()), own};
}

}  // namespace dfad::cuda
