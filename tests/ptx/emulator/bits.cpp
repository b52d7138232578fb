#include <algorithm>

#include "semantics.h"

namespace ptx {
namespace {

// Predicates may be negated.
std::uint64_t value_of(const Thread& thread, const Instruction& instruction, std::size_t source) {
  const Operand& operand = instruction.sources[source];
  return instruction.type == Type::pred ? read_predicate(thread, operand) : read(thread, operand);
}

int at_most(std::uint64_t amount, int most) {
  return static_cast<int>(std::min<std::uint64_t>(amount & mask_of(4), static_cast<std::uint64_t>(most)));
}

}  // namespace

void bits_and(Thread& thread, const Instruction& instruction) {
  write(thread, instruction.to[0], value_of(thread, instruction, 0) & value_of(thread, instruction, 1));
}

void bits_or(Thread& thread, const Instruction& instruction) {
  write(thread, instruction.to[0], value_of(thread, instruction, 0) | value_of(thread, instruction, 1));
}

void bits_xor(Thread& thread, const Instruction& instruction) {
  write(thread, instruction.to[0], value_of(thread, instruction, 0) ^ value_of(thread, instruction, 1));
}

void bits_not(Thread& thread, const Instruction& instruction) {
  const std::uint64_t value = value_of(thread, instruction, 0);
  write(thread, instruction.to[0], instruction.type == Type::pred ? value ^ 1 : ~value);
}

void shift_left(Thread& thread, const Instruction& instruction) {
  const int bits = 8 * bytes_of(instruction.type), amount = at_most(read(thread, instruction.sources[1]), bits);
  write(thread, instruction.to[0], amount == bits ? 0 : read(thread, instruction.sources[0]) << amount);
}

void shift_right(Thread& thread, const Instruction& instruction) {
  const int bytes = bytes_of(instruction.type), bits = 8 * bytes;
  const int amount = at_most(read(thread, instruction.sources[1]), bits);
  const std::uint64_t value = read(thread, instruction.sources[0]) & mask_of(bytes);
  if (is_signed(instruction.type)) {
    const std::int64_t shifted = sign_extended(value, bytes) >> std::min(amount, bits - 1);
    return write(thread, instruction.to[0], static_cast<std::uint64_t>(shifted));
  }
  write(thread, instruction.to[0], amount == bits ? 0 : value >> amount);
}

void extract_bits(Thread& thread, const Instruction& instruction) {
  const int bits = 8 * bytes_of(instruction.type);
  const std::uint64_t value = read(thread, instruction.sources[0]);
  const int begin = static_cast<int>(read(thread, instruction.sources[1]) & 255);
  const int count = static_cast<int>(read(thread, instruction.sources[2]) & 255);
  const auto bit = [&](int k) { return k < bits ? value >> k & 1 : 0; };
  const bool negative = is_signed(instruction.type) && count > 0 && bit(std::min(begin + count, bits) - 1) != 0;
  std::uint64_t result = 0;
  for (int k = 0; k < bits; ++k) {
    const bool given = k < count && begin + k < bits;
    result |= static_cast<std::uint64_t>(given ? bit(begin + k) : negative) << k;
  }
  write(thread, instruction.to[0], result);
}

void insert_bits(Thread& thread, const Instruction& instruction) {
  const int bits = 8 * bytes_of(instruction.type);
  const std::uint64_t inserted = read(thread, instruction.sources[0]);
  std::uint64_t result = read(thread, instruction.sources[1]);
  const int begin = static_cast<int>(read(thread, instruction.sources[2]) & 255);
  const int count = static_cast<int>(read(thread, instruction.sources[3]) & 255);
  for (int k = 0; k < count && begin + k < bits; ++k) {
    const std::uint64_t bit = std::uint64_t{1} << (begin + k);
    result = (inserted >> k & 1) != 0 ? result | bit : result & ~bit;
  }
  write(thread, instruction.to[0], result);
}

// Each nibble of the third operand names one of the eight bytes of the others, or copies of its sign.
void permute_bytes(Thread& thread, const Instruction& instruction) {
  const std::uint64_t low = read(thread, instruction.sources[0]) & mask_of(4);
  const std::uint64_t bytes = low | read(thread, instruction.sources[1]) << 32;
  const std::uint64_t choice = read(thread, instruction.sources[2]);
  std::uint64_t result = 0;
  for (int k = 0; k < 4; ++k) {
    const std::uint64_t nibble = choice >> (4 * k) & 15;
    const std::uint64_t byte = bytes >> (8 * (nibble & 7)) & 255;
    result |= ((nibble & 8) == 0 ? byte : (byte & 128) != 0 ? 255 : 0) << (8 * k);
  }
  write(thread, instruction.to[0], result);
}

}  // namespace ptx
