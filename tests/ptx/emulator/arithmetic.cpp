#include <algorithm>
#include <cfenv>
#include <cmath>
#include <functional>

#include "error.h"
#include "semantics.h"

namespace ptx {

float read_float(const Thread& thread, const Instruction& instruction, std::size_t source) {
  const float value = float_of(read(thread, instruction.sources[source]));
  return instruction.flush ? without_subnormals(value) : value;
}

void write_float(Thread& thread, const Instruction& instruction, float value) {
  if (instruction.flush) value = without_subnormals(value);
  if (instruction.saturate) value = std::isnan(value) ? 0.0f : std::clamp(value, 0.0f, 1.0f);
  write(thread, instruction.to[0], bits_of(value));
}

namespace {

// Both halves of a register, or the one value in it; `operation` is in double, which rounds once at the end.
template <class Operation>
std::uint64_t by_halves(Type type, std::uint64_t a, std::uint64_t b, std::uint64_t c, const Operation& operation) {
  const Type half = half_of(type) == Type::none ? type : half_of(type);
  const auto one = [&](int shift) {
    const auto value = [&](std::uint64_t bits) { return double_of(bits >> shift & 0xffff, half); };
    return rounded_to(operation(value(a), value(b), value(c)), half) << shift;
  };
  return half == type ? one(0) : one(0) | one(16);
}

bool is_halves(Type type) {
  return type == Type::f16 || type == Type::bf16 || half_of(type) != Type::none;
}

template <class Real, class Integer>
void binary(Thread& thread, const Instruction& instruction, const Real& real, const Integer& integer) {
  const Type type = instruction.type;
  if (type == Type::f32) {
    const float a = read_float(thread, instruction, 0), b = read_float(thread, instruction, 1);
    return write_float(thread, instruction, real(a, b));
  }
  const std::uint64_t a = read(thread, instruction.sources[0]), b = read(thread, instruction.sources[1]);
  std::uint64_t result;
  if (type == Type::f64) {
    result = bits_of(real(double_of(a, type), double_of(b, type)));
  } else if (is_halves(type)) {
    result = by_halves(type, a, b, 0, [&](double x, double y, double) { return real(x, y); });
  } else {
    const int bytes = bytes_of(type);
    result = is_signed(type)
        ? static_cast<std::uint64_t>(integer(sign_extended(a, bytes), sign_extended(b, bytes)))
        : integer(a & mask_of(bytes), b & mask_of(bytes));
  }
  write(thread, instruction.to[0], result);
}

// The other one of a number and a NaN; -0 is less than 0.
template <class T>
T lesser(T a, T b, bool keep_nan) {
  if (std::isnan(a) || std::isnan(b)) return keep_nan ? static_cast<T>(NAN) : std::isnan(a) ? b : a;
  if (a == b) return std::signbit(a) ? a : b;
  return a < b ? a : b;
}

std::uint64_t wide_product(const Thread& thread, const Instruction& instruction) {
  const int bytes = bytes_of(instruction.type);
  const std::uint64_t a = read(thread, instruction.sources[0]), b = read(thread, instruction.sources[1]);
  if (!is_signed(instruction.type)) return (a & mask_of(bytes)) * (b & mask_of(bytes));
  return static_cast<std::uint64_t>(sign_extended(a, bytes) * sign_extended(b, bytes));
}

int mode_of(Rounding rounding) {
  switch (rounding) {
    case Rounding::nearest: return FE_TONEAREST;
    case Rounding::zero: return FE_TOWARDZERO;
    case Rounding::down: return FE_DOWNWARD;
    case Rounding::up: return FE_UPWARD;
    default: fail("a rounding to integers in arithmetic");
  }
}

float fused(float a, float b, float c, Rounding rounding) {
  if (rounding == Rounding::nearest) return std::fma(a, b, c);
  volatile float x = a, y = b, z = c;  // computed here, in the other mode
  std::fesetround(mode_of(rounding));
  volatile float result = __builtin_fmaf(x, y, z);
  std::fesetround(FE_TONEAREST);
  return result;
}

}  // namespace

void add(Thread& thread, const Instruction& instruction) {
  binary(thread, instruction, std::plus{}, [](auto a, auto b) { return std::uint64_t(a) + std::uint64_t(b); });
}

void subtract(Thread& thread, const Instruction& instruction) {
  binary(thread, instruction, std::minus{}, [](auto a, auto b) { return std::uint64_t(a) - std::uint64_t(b); });
}

void multiply(Thread& thread, const Instruction& instruction) {
  binary(thread, instruction, std::multiplies{}, [](auto a, auto b) { return std::uint64_t(a) * std::uint64_t(b); });
}

void divide(Thread& thread, const Instruction& instruction) {
  binary(thread, instruction, [](auto a, auto b) { return a / b; }, [](auto a, auto b) {
    if (b == 0) fail("a division by zero");
    return a / b;
  });
}

void remainder(Thread& thread, const Instruction& instruction) {
  binary(thread, instruction, [](auto, auto) -> double { fail("a remainder of floats"); }, [](auto a, auto b) {
    if (b == 0) fail("a remainder by zero");
    return a % b;
  });
}

void minimum(Thread& thread, const Instruction& instruction) {
  const bool keep_nan = instruction.keep_nan;
  binary(
      thread, instruction, [=](auto a, auto b) { return lesser(a, b, keep_nan); },
      [](auto a, auto b) { return std::min(a, b); });
}

void maximum(Thread& thread, const Instruction& instruction) {
  const bool keep_nan = instruction.keep_nan;
  binary(
      thread, instruction, [=](auto a, auto b) { return -lesser(-a, -b, keep_nan); },
      [](auto a, auto b) { return std::max(a, b); });
}

void multiply_wide(Thread& thread, const Instruction& instruction) {
  write(thread, instruction.to[0], wide_product(thread, instruction));
}

void multiply_high(Thread& thread, const Instruction& instruction) {
  const std::uint64_t a = read(thread, instruction.sources[0]), b = read(thread, instruction.sources[1]);
  const int bits = 8 * bytes_of(instruction.type);
  if (is_signed(instruction.type)) {
    const auto x = sign_extended(a, bits / 8), y = sign_extended(b, bits / 8);
    return write(thread, instruction.to[0], static_cast<std::uint64_t>(static_cast<__int128>(x) * y >> bits));
  }
  const unsigned __int128 product = static_cast<unsigned __int128>(a & mask_of(bits / 8)) * (b & mask_of(bits / 8));
  write(thread, instruction.to[0], static_cast<std::uint64_t>(product >> bits));
}

void multiply_add(Thread& thread, const Instruction& instruction) {
  const auto source = [&](std::size_t k) { return read(thread, instruction.sources[k]); };
  write(thread, instruction.to[0], source(0) * source(1) + source(2));
}

void multiply_add_wide(Thread& thread, const Instruction& instruction) {
  write(thread, instruction.to[0], wide_product(thread, instruction) + read(thread, instruction.sources[2]));
}

void fused_multiply_add(Thread& thread, const Instruction& instruction) {
  const Type type = instruction.type;
  if (type == Type::f32) {
    const auto source = [&](std::size_t k) { return read_float(thread, instruction, k); };
    return write_float(thread, instruction, fused(source(0), source(1), source(2), instruction.rounding));
  }
  const auto source = [&](std::size_t k) { return read(thread, instruction.sources[k]); };
  const auto in_double = [](double a, double b, double c) { return std::fma(a, b, c); };
  if (is_halves(type)) {
    return write(thread, instruction.to[0], by_halves(type, source(0), source(1), source(2), in_double));
  }
  const auto value = [&](std::size_t k) { return double_of(source(k), type); };
  write(thread, instruction.to[0], bits_of(in_double(value(0), value(1), value(2))));
}

}  // namespace ptx
