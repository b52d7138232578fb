// torch's allocator on the CPU, as on a GPU: aligned to 512 bytes, full of NaN, and every tensor known to the emulator,
// so that an access beside one shows.
#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "memory.h"

namespace {

constexpr std::size_t alignment = 512;

void release(void* data) {
  ptx::remove_allocation(reinterpret_cast<std::uint64_t>(data));
  std::free(data);
}

struct KnownToTheEmulator final : c10::Allocator {
  c10::DataPtr allocate(std::size_t bytes) override {
    const c10::Device cpu(c10::kCPU);
    if (bytes == 0) return {nullptr, nullptr, nullptr, cpu};
    void* const data = std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
    if (data == nullptr) throw std::bad_alloc();
    std::memset(data, 0xff, bytes);
    ptx::add_allocation(reinterpret_cast<std::uint64_t>(data), bytes);
    return {data, data, &release, cpu};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override { std::memcpy(to, from, bytes); }
};

KnownToTheEmulator allocator;

}  // namespace

extern "C" __attribute__((visibility("default"))) void ptx_know_tensors() {
  c10::SetCPUAllocator(&allocator, /*priority=*/100);
}
