#pragma once

#include <c10/cuda/CUDAStream.h>

namespace c10::cuda {

enum class CaptureStatus : int { None, Active };

inline CaptureStatus currentStreamCaptureStatusMayInitCtx() {
  return getCurrentCUDAStream().capturing ? CaptureStatus::Active : CaptureStatus::None;
}

}  // namespace c10::cuda
