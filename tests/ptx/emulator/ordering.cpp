#include "ordering.h"

#include <algorithm>
#include <map>
#include <vector>

namespace ptx {
namespace {

// What a block has let others see by an atomic operation: whatever was before that thread's last fence.
struct Published {
  std::int32_t thread;  // among those of all blocks, as in Cell::Access
  std::int32_t fences;
  std::int32_t barriers;  // that the block had passed at the fence

  bool covers(const Cell::Access& access) const {
    return access.thread == thread ? access.fences < fences : access.barriers < barriers;
  }
};

// By the block's turn. Atomic operations on one address happen one after another, so each sees all earlier ones.
using Publications = std::map<std::int32_t, Published>;

// That a thread has seen what was published at an address. From its next fence on that is settled.
struct Seen {
  std::uint64_t address;
  std::int32_t thread;
  std::int32_t fences;    // the thread's, at the operation
  std::int32_t barriers;  // the block's, at the fence after it
  bool fenced = false;

  bool holds_for(const Cell::Access& now) const {
    return fenced && (now.thread == thread ? now.fences > fences : now.barriers > barriers);
  }
};

std::map<std::uint64_t, Publications> published;  // at each address
std::vector<Seen> seen;                           // by the block

}  // namespace

void begin_launch_of_ordering() {
  published.clear();
}

void begin_block_of_ordering() {
  seen.clear();
}

void note_fence(Thread& thread) {
  ++thread.fences;
  thread.barriers_at_fence = machine().barriers;
  for (Seen& one : seen) {
    if (one.thread != number_of(thread) || one.fenced) continue;
    one.fenced = true;
    one.barriers = machine().barriers;
  }
}

void note_atomic_at(const Thread& thread, std::uint64_t address) {
  const std::int32_t number = number_of(thread);
  published[address][machine().block_turn] = {number, thread.fences, thread.barriers_at_fence};
  seen.push_back({address, number, thread.fences, 0});
}

bool is_before_by_fences(const Cell::Access& earlier, const Cell::Access& now) {
  return std::any_of(seen.begin(), seen.end(), [&](const Seen& one) {
    if (!one.holds_for(now)) return false;
    const Publications& there = published[one.address];
    const auto block = there.find(block_turn_of(earlier.thread));
    return block != there.end() && block->second.covers(earlier);
  });
}

}  // namespace ptx
