#include <cstring>

#include "memory.h"
#include "ordering.h"
#include "semantics.h"

namespace ptx {

// To 0 beyond the limit.
void increment_wrapping(Thread& thread, const Instruction& instruction) {
  std::uint32_t before = 0;
  const auto limit = static_cast<std::uint32_t>(read(thread, instruction.sources[0]));
  if (char* const at = atomic_access(thread, instruction.space, address_of(thread, instruction), sizeof before)) {
    std::memcpy(&before, at, sizeof before);
    const std::uint32_t after = before >= limit ? 0 : before + 1;
    std::memcpy(at, &after, sizeof after);
  }
  write(thread, instruction.to[0], before);
}

void atomic_maximum(Thread& thread, const Instruction& instruction) {
  const int bytes = bytes_of(instruction.type);
  const std::uint64_t value = read(thread, instruction.sources[0]);
  std::uint64_t before = 0;
  if (char* const at = atomic_access(thread, instruction.space, address_of(thread, instruction), bytes)) {
    std::memcpy(&before, at, static_cast<std::size_t>(bytes));
    if (sign_extended(value, bytes) > sign_extended(before, bytes)) {
      std::memcpy(at, &value, static_cast<std::size_t>(bytes));
    }
  }
  write(thread, instruction.to[0], before);
}

void fence(Thread& thread, const Instruction&) {
  note_fence(thread);
}

}  // namespace ptx
