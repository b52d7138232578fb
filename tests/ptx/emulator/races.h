// Two threads that access one byte, one of them to write, with nothing between that orders them. Atomic operations do
// not race with each other.
#pragma once

#include <cstdint>

namespace ptx {

struct Thread;

// Who last wrote and read a byte, and when: after how many barriers of the block and of the warp, and fences of its own.
struct Cell {
  struct Access {
    std::int32_t thread = -1;
    std::int32_t barriers = 0;
    std::int32_t warp_barriers = 0;
    std::int32_t fences = 0;
  };

  std::uint32_t launch = 0;
  Access writer;
  Access reader;
  bool several_readers = false;
  bool atomic = false;  // the last write
  char value = 0;
};

void note_read(const Thread& thread, Cell* cells, int bytes);
void note_write(const Thread& thread, Cell* cells, int bytes, const char* values);
void note_atomic(const Thread& thread, Cell* cells, int bytes);

}  // namespace ptx
