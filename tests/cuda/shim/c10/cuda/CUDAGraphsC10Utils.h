#pragma once

#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime.h>

namespace c10::cuda {

struct CUDAStreamCaptureModeGuard {
  explicit CUDAStreamCaptureModeGuard(cudaStreamCaptureMode) {}
};

enum class CaptureStatus : int { None, Active };

inline CaptureStatus currentStreamCaptureStatusMayInitCtx() {
  return getCurrentCUDAStream().capturing ? CaptureStatus::Active : CaptureStatus::None;
}

}  // namespace c10::cuda
