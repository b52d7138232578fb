#include <cstring>

#include "memory.h"
#include "ordering.h"
#include "semantics.h"

namespace ptx {

// To 0 beyond the limit.
void increment_wrapping(Thread& thread, const Instruction& instruction) {
  std::uint32_t before = 0;
  const auto limit = static_cast<std::uint32_t>(read(thread, instruction.sources[0]));
  if (char* const at = atomic_access(thread, address_of(thread, instruction), sizeof before)) {
    std::memcpy(&before, at, sizeof before);
    const std::uint32_t after = before >= limit ? 0 : before + 1;
    std::memcpy(at, &after, sizeof after);
  }
  write(thread, instruction.to[0], before);
}

void fence(Thread& thread, const Instruction&) {
  note_fence(thread);
}

}  // namespace ptx
