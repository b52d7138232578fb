#include "launch.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <set>

#include "error.h"
#include "findings.h"
#include "machine.h"
#include "ordering.h"
#include "sectors.h"
#include "warp.h"

namespace ptx {
namespace {

constexpr std::size_t most_shared = 48 * 1024;

std::vector<unsigned> shuffled(unsigned count) {
  std::vector<unsigned> order(count);
  std::iota(order.begin(), order.end(), 0u);
  std::shuffle(order.begin(), order.end(), machine().random);
  return order;
}

// Nothing is left of what ran before; memory holds NaN.
void prepare_block() {
  Machine& m = machine();
  m.barriers = 0;
  std::fill(m.shared.begin(), m.shared.end(), '\xff');
  m.shared_cells.assign(m.shared.size(), {});
  begin_block_of_ordering();
  for (Thread& thread : m.threads) {
    std::fill(thread.written.begin(), thread.written.end(), std::uint8_t{0});
    std::fill(thread.local.begin(), thread.local.end(), '\xff');
    thread.accesses.clear();
    thread.next = 0;
    thread.warp_barriers = 0;
    thread.fences = 0;
    thread.barriers_at_fence = 0;
    thread.state = Thread::State::running;
  }
}

// The threads that wait at a barrier go on. Returns whether there were any.
bool pass_barrier() {
  Machine& m = machine();
  std::set<std::size_t> places;
  bool some_ended = false;
  for (const Thread& thread : m.threads) {
    if (thread.state == Thread::State::waiting) places.insert(thread.next);
    some_ended |= thread.state == Thread::State::ended;
  }
  if (places.empty()) return false;
  m.current = &m.kernel->code[*places.begin()];
  if (places.size() > 1) report("warps wait at different barriers");
  if (some_ended) report("a barrier that threads of the block never reach");
  ++m.barriers;
  for (Thread& thread : m.threads) {
    if (thread.state != Thread::State::waiting) continue;
    thread.state = Thread::State::running;
    ++thread.next;
  }
  return true;
}

void run_block() {
  const auto warps = static_cast<unsigned>((machine().threads.size() + warp_size - 1) / warp_size);
  prepare_block();
  do {
    for (const unsigned warp : shuffled(warps)) run_warp(warp);
  } while (pass_barrier());
  end_block_of_sectors();
}

void pass_arguments(Kernel& kernel, const Arguments& arguments) {
  if (kernel.parameters.size() != arguments.count) {
    fail(
        kernel.name + " takes " + std::to_string(kernel.parameters.size()) + " arguments, got " +
        std::to_string(arguments.count));
  }
  for (std::size_t k = 0; k < arguments.count; ++k) {
    const Parameter& parameter = kernel.parameters[k];
    if (parameter.bytes != arguments.bytes[k]) fail("an argument of another size: " + parameter.name);
    std::memcpy(&kernel.arguments[parameter.offset], arguments.values[k], parameter.bytes);
  }
}

void check_size(const Kernel& kernel, unsigned threads, std::size_t shared) {
  if (threads == 0 || threads > 1024) fail("a block has 1 to 1024 threads");
  if (kernel.most_threads != 0 && threads > kernel.most_threads) fail("more threads than .maxntid");
  if (kernel.required_threads != 0 && threads != kernel.required_threads) fail("other threads than .reqntid");
  if (shared > most_shared) fail("more than 48 KB of shared memory");
}

void prepare_threads(unsigned count) {
  Machine& m = machine();
  m.threads.resize(count);
  for (unsigned k = 0; k < count; ++k) {
    Thread& thread = m.threads[k];
    thread.id = k;
    thread.registers.assign(m.kernel->registers.size(), 0x7ff5dead7fb5beef);
    thread.written.assign(m.kernel->registers.size(), 0);
    thread.local.resize(m.kernel->local_bytes);
  }
}

}  // namespace

void launch(
    Module& module, const std::string& kernel, unsigned blocks, unsigned threads, std::size_t dynamic_shared,
    const Arguments& arguments) {
  Machine& m = machine();
  const auto found = module.kernels.find(kernel);
  if (found == module.kernels.end()) fail("no kernel " + kernel);
  m.module = &module;
  m.kernel = found->second.get();
  pass_arguments(*m.kernel, arguments);
  m.shared.assign(module.shared_bytes + (module.dynamic_shared ? dynamic_shared : 0), 0);
  m.shared_cells.assign(m.shared.size(), {});
  check_size(*m.kernel, threads, m.shared.size());
  m.blocks = blocks;
  m.threads_per_block = threads;
  ++m.launch;
  m.random.seed(m.seed * 7919 + m.launch);
  m.block_turn = 0;
  begin_launch_of_ordering();
  prepare_threads(threads);
  for (const unsigned block : shuffled(blocks)) {
    m.block = block;
    run_block();
    ++m.block_turn;
  }
}

}  // namespace ptx
