#include <array>
#include <cstring>

#include "memory.h"
#include "semantics.h"

namespace ptx {
namespace {

constexpr std::size_t most_bytes = 32;

}  // namespace

// Also packs several registers into one, and takes one apart.
void move(Thread& thread, const Instruction& instruction) {
  if (instruction.type == Type::pred) {
    return write(thread, instruction.to[0], read_predicate(thread, instruction.sources[0]));
  }
  std::uint64_t value = 0;
  const std::size_t bytes = static_cast<std::size_t>(bytes_of(instruction.type));
  const auto in = bytes / instruction.sources.size(), out = bytes / instruction.to.size();
  for (std::size_t k = 0; k < instruction.sources.size(); ++k) {
    value |= (read(thread, instruction.sources[k]) & mask_of(static_cast<int>(in))) << (8 * in * k);
  }
  for (std::size_t k = 0; k < instruction.to.size(); ++k) {
    write(thread, instruction.to[k], value >> (8 * out * k) & mask_of(static_cast<int>(out)));
  }
}

void load_registers(Thread& thread, const Instruction& instruction) {
  std::array<char, most_bytes> values;
  const int bytes = bytes_of(instruction.type);
  const int all = bytes * static_cast<int>(instruction.to.size());
  load(thread, instruction.space, address_of(thread, instruction), all, values.data());
  for (std::size_t k = 0; k < instruction.to.size(); ++k) {
    std::uint64_t value = 0;
    std::memcpy(&value, &values[k * static_cast<std::size_t>(bytes)], static_cast<std::size_t>(bytes));
    if (is_signed(instruction.type)) value = static_cast<std::uint64_t>(sign_extended(value, bytes));
    write(thread, instruction.to[k], value);
  }
}

void store_registers(Thread& thread, const Instruction& instruction) {
  std::array<char, most_bytes> values;
  const int bytes = bytes_of(instruction.type);
  for (std::size_t k = 0; k < instruction.sources.size(); ++k) {
    const std::uint64_t value = read(thread, instruction.sources[k]);
    std::memcpy(&values[k * static_cast<std::size_t>(bytes)], &value, static_cast<std::size_t>(bytes));
  }
  const int all = bytes * static_cast<int>(instruction.sources.size());
  store(thread, instruction.space, address_of(thread, instruction), all, values.data());
}

}  // namespace ptx
