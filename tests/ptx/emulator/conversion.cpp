#include <algorithm>
#include <cmath>

#include "error.h"
#include "semantics.h"

namespace ptx {
namespace {

double to_integer(double value, Rounding rounding) {
  switch (rounding) {
    case Rounding::to_integer: return std::nearbyint(value);
    case Rounding::to_integer_zero: return std::trunc(value);
    case Rounding::to_integer_down: return std::floor(value);
    case Rounding::to_integer_up: return std::ceil(value);
    default: return value;
  }
}

// A value beyond the integers becomes the last of them, NaN becomes 0.
std::uint64_t integer_of(double value, Type type) {
  const int bits = 8 * bytes_of(type);
  if (std::isnan(value)) return 0;
  const double low = is_signed(type) ? -std::ldexp(1.0, bits - 1) : 0.0;
  const double high = std::ldexp(1.0, is_signed(type) ? bits - 1 : bits);
  if (value <= low) return is_signed(type) ? std::uint64_t{1} << (bits - 1) : 0;
  if (value >= high) return is_signed(type) ? (std::uint64_t{1} << (bits - 1)) - 1 : mask_of(bits / 8);
  if (is_signed(type)) return static_cast<std::uint64_t>(static_cast<std::int64_t>(value));
  return static_cast<std::uint64_t>(value);
}

std::uint64_t from_float(std::uint64_t bits, Type to, const Instruction& instruction) {
  double value = to_integer(double_of(bits, instruction.from), instruction.rounding);
  if (!is_float(to)) return integer_of(value, to);
  if (instruction.saturate) value = std::isnan(value) ? 0.0 : std::clamp(value, 0.0, 1.0);
  return rounded_to(value, to);
}

std::uint64_t from_integer(std::uint64_t bits, Type to, const Instruction& instruction) {
  const int bytes = bytes_of(instruction.from);
  const std::uint64_t positive = bits & mask_of(bytes);
  const std::int64_t value = sign_extended(bits, bytes);
  const bool negative = is_signed(instruction.from);
  if (to == Type::f32) return bits_of(negative ? static_cast<float>(value) : static_cast<float>(positive));
  if (is_float(to)) return rounded_to(negative ? static_cast<double>(value) : static_cast<double>(positive), to);
  const std::uint64_t result = negative ? static_cast<std::uint64_t>(value) : positive;
  return is_signed(to) ? static_cast<std::uint64_t>(sign_extended(result, bytes_of(to)))
                       : result & mask_of(bytes_of(to));
}

}  // namespace

void convert(Thread& thread, const Instruction& instruction) {
  const Rounding rounding = instruction.rounding;
  const bool directed = rounding == Rounding::zero || rounding == Rounding::down || rounding == Rounding::up;
  if (instruction.from == Type::none || directed) {
    fail("unknown conversion: " + instruction.text);
  }
  const auto one = [&](std::size_t source, Type to) {
    const std::uint64_t bits = read(thread, instruction.sources[source]);
    return is_float(instruction.from) ? from_float(bits, to, instruction) : from_integer(bits, to, instruction);
  };
  const Type half = half_of(instruction.type);
  write(thread, instruction.to[0], half == Type::none ? one(0, instruction.type) : one(0, half) << 16 | one(1, half));
}

}  // namespace ptx
