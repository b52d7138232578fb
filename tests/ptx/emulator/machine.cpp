#include "machine.h"

#include "error.h"
#include "findings.h"

namespace ptx {
namespace {

std::uint64_t special_value(const Thread& thread, Special special) {
  const Machine& m = machine();
  switch (special) {
    case Special::thread: return thread.id;
    case Special::block: return m.block;
    case Special::block_size: return m.threads_per_block;
    case Special::grid_size: return m.blocks;
    case Special::lane: return thread.id % warp_size;
    case Special::one: return 1;
    default: return 0;
  }
}

}  // namespace

Machine& machine() {
  static Machine the_machine;
  return the_machine;
}

std::int32_t number_of(const Thread& thread) {
  const Machine& m = machine();
  return m.block_turn * static_cast<std::int32_t>(m.threads_per_block) + static_cast<std::int32_t>(thread.id);
}

std::int32_t block_turn_of(std::int32_t number) {
  return number / static_cast<std::int32_t>(machine().threads_per_block);
}

std::uint64_t read(const Thread& thread, const Operand& operand) {
  switch (operand.kind) {
    case Operand::Kind::reg:
      if (!thread.written[operand.index]) {
        report("read of register " + machine().kernel->registers[operand.index].name + ", which was not written");
      }
      return thread.registers[operand.index];
    case Operand::Kind::immediate: return operand.value;
    case Operand::Kind::special: return special_value(thread, operand.special);
    default: fail("an operand that cannot be read");
  }
}

bool read_predicate(const Thread& thread, const Operand& operand) {
  return ((read(thread, operand) & 1) != 0) != operand.negated;
}

void write(Thread& thread, const Operand& operand, std::uint64_t value) {
  if (operand.kind == Operand::Kind::none || operand.kind == Operand::Kind::discarded) return;
  if (operand.kind != Operand::Kind::reg) fail("an operand that cannot be written");
  thread.registers[operand.index] = value & mask_of(operand.bytes);
  thread.written[operand.index] = 1;
}

}  // namespace ptx
