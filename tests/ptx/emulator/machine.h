// The state of the launch that runs: one block at a time.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "program.h"
#include "races.h"

namespace ptx {

constexpr unsigned warp_size = 32;

struct Thread {
  enum class State : std::uint8_t { running, waiting, ended };

  std::vector<std::uint64_t> registers;
  std::vector<std::uint8_t> written;     // whether each register was
  std::vector<char> local;
  std::vector<std::uint32_t> accesses;   // how often each instruction went to global memory
  unsigned id = 0;
  std::size_t next = 0;                  // instruction
  std::int32_t warp_barriers = 0;
  std::int32_t fences = 0;
  std::int32_t barriers_at_fence = 0;    // that the block had passed at the last of them
  State state = State::running;
};

struct Machine {
  Module* module = nullptr;
  Kernel* kernel = nullptr;
  const Instruction* current = nullptr;
  std::uint32_t launch = 0;
  unsigned blocks = 0;
  unsigned threads_per_block = 0;
  unsigned block = 0;
  std::int32_t block_turn = 0;  // blocks run in a random order
  std::int32_t barriers = 0;    // that the block has passed
  std::vector<Thread> threads;
  std::vector<char> shared;
  std::vector<Cell> shared_cells;
  std::mt19937 random;
  std::uint32_t seed = 1;
  std::uint64_t instructions = 0;
};

Machine& machine();

// A thread's number among those of all blocks, in the order in which these run; and the turn of the block it is in.
std::int32_t number_of(const Thread& thread);
std::int32_t block_turn_of(std::int32_t number);

std::uint64_t read(const Thread& thread, const Operand& operand);
bool read_predicate(const Thread& thread, const Operand& operand);
void write(Thread& thread, const Operand& operand, std::uint64_t value);

}  // namespace ptx
