#pragma once

#include <c10/core/Device.h>
#include <c10/core/Stream.h>

namespace c10::cuda {

// The stream that is said to be the current one; launches run at once whatever it is.
struct CUDAStream {
  c10::StreamId number = 0;
  bool capturing = false;

  c10::StreamId id() const { return number; }
  c10::DeviceIndex device_index() const { return 0; }
  void* stream() const { return nullptr; }
  operator void*() const { return nullptr; }
};

inline CUDAStream current_stream;

inline CUDAStream getCurrentCUDAStream() {
  return current_stream;
}

}  // namespace c10::cuda

extern "C" __attribute__((visibility("default"))) void cuda_shim_use_stream(c10::StreamId number, bool capturing);
