#include "races.h"

#include "findings.h"
#include "machine.h"
#include "ordering.h"

namespace ptx {
namespace {

Cell::Access access_by(const Thread& thread) {
  return {number_of(thread), machine().barriers, thread.warp_barriers, thread.fences};
}

// Whether the earlier access has come before this one whatever the order of threads.
bool is_before(const Cell::Access& earlier, const Cell::Access& now) {
  if (earlier.thread < 0 || earlier.thread == now.thread) return true;
  if (block_turn_of(earlier.thread) != block_turn_of(now.thread)) return is_before_by_fences(earlier, now);
  if (earlier.barriers < now.barriers) return true;
  const auto warp = [](std::int32_t number) {
    return number % static_cast<std::int32_t>(machine().threads_per_block) / static_cast<std::int32_t>(warp_size);
  };
  return warp(earlier.thread) == warp(now.thread) && earlier.warp_barriers < now.warp_barriers;
}

void begin_launch(Cell& cell) {
  if (cell.launch == machine().launch) return;
  cell = {};
  cell.launch = machine().launch;
}

// From now on the cell holds what this access wrote.
void take_over(Cell& cell, const Cell::Access& now, bool atomic) {
  cell.writer = now;
  cell.reader = {};
  cell.several_readers = false;
  cell.atomic = atomic;
}

}  // namespace

void note_read(const Thread& thread, Cell* cells, int bytes) {
  const Cell::Access now = access_by(thread);
  bool raced = false;
  for (int i = 0; i < bytes; ++i) {
    Cell& cell = cells[i];
    begin_launch(cell);
    raced |= !is_before(cell.writer, now);
    cell.several_readers =
        cell.reader.thread >= 0 && cell.reader.thread != now.thread && cell.reader.barriers == now.barriers;
    cell.reader = now;
  }
  if (raced) report("race: a read of what another thread writes");
}

// Several threads that write the same value are no race: Triton's lanes do so.
void note_write(const Thread& thread, Cell* cells, int bytes, const char* values) {
  const Cell::Access now = access_by(thread);
  bool raced = false, overtook = false;
  for (int i = 0; i < bytes; ++i) {
    Cell& cell = cells[i];
    begin_launch(cell);
    raced |= !is_before(cell.writer, now) && cell.value != values[i];
    overtook |= cell.several_readers ? cell.reader.barriers >= now.barriers : !is_before(cell.reader, now);
    take_over(cell, now, false);
    cell.value = values[i];
  }
  if (raced) report("race: two threads write different values");
  if (overtook) report("race: a write of what another thread reads");
}

void note_atomic(const Thread& thread, Cell* cells, int bytes) {
  const Cell::Access now = access_by(thread);
  bool raced = false;
  for (int i = 0; i < bytes; ++i) {
    Cell& cell = cells[i];
    begin_launch(cell);
    raced |= (!cell.atomic && !is_before(cell.writer, now)) || !is_before(cell.reader, now);
    take_over(cell, now, true);
  }
  if (raced) report("race: an atomic operation on what another thread reads or writes");
}

}  // namespace ptx
