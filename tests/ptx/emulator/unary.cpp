#include <cmath>

#include "error.h"
#include "semantics.h"

namespace ptx {
namespace {

std::uint64_t sign_bits(Type type) {
  switch (type) {
    case Type::f64: return std::uint64_t{1} << 63;
    case Type::f32: return 0x80000000u;
    case Type::f16x2: case Type::bf16x2: return 0x80008000u;
    case Type::f16: case Type::bf16: return 0x8000u;
    default: return 0;
  }
}

void check_float(const Instruction& instruction) {
  if (instruction.type != Type::f32) fail("unknown type: " + instruction.text);
}

}  // namespace

void absolute(Thread& thread, const Instruction& instruction) {
  const std::uint64_t value = read(thread, instruction.sources[0]), sign = sign_bits(instruction.type);
  if (sign != 0) return write(thread, instruction.to[0], value & ~sign);
  const std::int64_t integer = sign_extended(value, bytes_of(instruction.type));
  write(thread, instruction.to[0], static_cast<std::uint64_t>(integer < 0 ? -integer : integer));
}

void negate(Thread& thread, const Instruction& instruction) {
  const std::uint64_t value = read(thread, instruction.sources[0]), sign = sign_bits(instruction.type);
  write(thread, instruction.to[0], sign != 0 ? value ^ sign : 0 - value);
}

void square_root(Thread& thread, const Instruction& instruction) {
  if (instruction.type == Type::f32) {
    return write_float(thread, instruction, std::sqrt(read_float(thread, instruction, 0)));
  }
  write(thread, instruction.to[0], bits_of(std::sqrt(double_of(read(thread, instruction.sources[0]), Type::f64))));
}

void reciprocal(Thread& thread, const Instruction& instruction) {
  if (instruction.type == Type::f32) return write_float(thread, instruction, 1.0f / read_float(thread, instruction, 0));
  write(thread, instruction.to[0], bits_of(1.0 / double_of(read(thread, instruction.sources[0]), Type::f64)));
}

// A double gets only the upper half of its bits: a first guess that the code then improves.
void approximate_reciprocal(Thread& thread, const Instruction& instruction) {
  if (instruction.type == Type::f32) return reciprocal(thread, instruction);
  const double value = 1.0 / double_of(read(thread, instruction.sources[0]), Type::f64);
  write(thread, instruction.to[0], bits_of(value) & ~mask_of(4));
}

// Rounded correctly, as no GPU does: it may be off by some units in the last place.
void exponential(Thread& thread, const Instruction& instruction) {
  check_float(instruction);
  const double value = read_float(thread, instruction, 0);
  write_float(thread, instruction, static_cast<float>(std::exp2(value)));
}

void logarithm(Thread& thread, const Instruction& instruction) {
  check_float(instruction);
  const double value = read_float(thread, instruction, 0);
  write_float(thread, instruction, static_cast<float>(std::log2(value)));
}

}  // namespace ptx
