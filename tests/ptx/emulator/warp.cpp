#include "warp.h"

#include <algorithm>
#include <bit>
#include <map>
#include <numeric>

#include "collective.h"
#include "error.h"
#include "findings.h"

namespace ptx {
namespace {

constexpr std::uint64_t most_instructions = 200'000'000;  // of one thread between two meetings

using Meetings = std::map<std::size_t, std::uint32_t>;  // the lanes that wait at each instruction

// Until it waits for others or has ended.
void run_thread(Thread& thread) {
  Machine& m = machine();
  const std::vector<Instruction>& code = m.kernel->code;
  for (std::uint64_t count = 0;; ++count) {
    if (count == most_instructions) fail("a thread that does not end");
    if (thread.next >= code.size()) {
      thread.state = Thread::State::ended;
      return;
    }
    const Instruction& instruction = code[thread.next];
    m.current = &instruction;
    ++m.instructions;
    if (instruction.guard.kind != Operand::Kind::none && !read_predicate(thread, instruction.guard)) {
      ++thread.next;
      continue;
    }
    switch (instruction.scope) {
      case Scope::thread:
        instruction.execute(thread, instruction);
        ++thread.next;
        break;
      case Scope::branch: thread.next = static_cast<std::size_t>(instruction.target); break;
      case Scope::exit: thread.state = Thread::State::ended; return;
      default: thread.state = Thread::State::waiting; return;
    }
  }
}

void run_lanes(const Lanes& lanes) {
  std::array<unsigned, warp_size> order;
  std::iota(order.begin(), order.end(), 0u);
  std::shuffle(order.begin(), order.end(), machine().random);
  for (const unsigned lane : order) {
    if (lanes[lane] != nullptr && lanes[lane]->state == Thread::State::running) run_thread(*lanes[lane]);
  }
}

std::uint32_t ended_lanes(const Lanes& lanes) {
  std::uint32_t ended = 0;
  for (unsigned lane = 0; lane < warp_size; ++lane) {
    if (lanes[lane] != nullptr && lanes[lane]->state == Thread::State::ended) ended |= 1u << lane;
  }
  return ended;
}

Meetings meetings_of(const Lanes& lanes) {
  Meetings meetings;
  for (unsigned lane = 0; lane < warp_size; ++lane) {
    const Thread* const thread = lanes[lane];
    if (thread != nullptr && thread->state == Thread::State::waiting) meetings[thread->next] |= 1u << lane;
  }
  return meetings;
}

// Whether all whom the mask names are there; then they have gone on.
bool meet(const Lanes& lanes, std::uint32_t here, const Instruction& instruction) {
  machine().current = &instruction;
  const Thread& first = *lanes[static_cast<unsigned>(std::countr_zero(here))];
  const auto mask = static_cast<std::uint32_t>(read(first, instruction.sources.back()));
  const std::uint32_t ended = ended_lanes(lanes);
  if ((mask & here) != here) report("a lane that its own member mask does not name");
  if ((mask & ~here & ~ended) != 0) return false;
  if ((mask & ended) != 0) report("a member mask that names lanes that have ended");
  execute_together(lanes, here, instruction);
  return true;
}

void check_block_barrier(const Lanes& lanes, const Meetings& meetings) {
  const std::vector<Instruction>& code = machine().kernel->code;
  for (const auto& [next, here] : meetings) {
    machine().current = &code[next];
    if (code[next].scope != Scope::block) fail("a deadlock: lanes that the others never meet");
  }
  if (meetings.size() > 1) report("lanes of one warp wait at different barriers");
  if (!meetings.empty() && ended_lanes(lanes) != 0) report("a barrier that lanes of the warp never reach");
}

}  // namespace

void run_warp(unsigned warp) {
  Machine& m = machine();
  Lanes lanes{};
  for (unsigned lane = 0; lane < warp_size && warp * warp_size + lane < m.threads.size(); ++lane) {
    lanes[lane] = &m.threads[warp * warp_size + lane];
  }
  while (true) {
    run_lanes(lanes);
    bool met = false;
    const Meetings meetings = meetings_of(lanes);
    for (const auto& [next, here] : meetings) {
      const Instruction& instruction = m.kernel->code[next];
      if (instruction.scope == Scope::warp) met |= meet(lanes, here, instruction);
    }
    if (met) continue;
    check_block_barrier(lanes, meetings);
    return;
  }
}

}  // namespace ptx
