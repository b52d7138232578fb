#include "types.h"

#include <cmath>
#include <map>

#include "error.h"

namespace ptx {
namespace {

const std::map<std::string, Type> names = {
    {"pred", Type::pred}, {"b8", Type::b8},       {"u8", Type::u8},         {"s8", Type::s8},   {"b16", Type::b16},
    {"u16", Type::u16},   {"s16", Type::s16},     {"f16", Type::f16},       {"bf16", Type::bf16}, {"b32", Type::b32},
    {"u32", Type::u32},   {"s32", Type::s32},     {"f32", Type::f32},       {"f16x2", Type::f16x2},
    {"bf16x2", Type::bf16x2}, {"b64", Type::b64}, {"u64", Type::u64},       {"s64", Type::s64}, {"f64", Type::f64},
};

// First to float with the last bit set where anything was lost, so that the second rounding is the only one.
std::uint16_t bfloat_of(double value) {
  float narrow = static_cast<float>(value);
  auto bits = std::bit_cast<std::uint32_t>(narrow);
  if (std::isfinite(narrow) && static_cast<double>(narrow) != value) {
    if (std::fabs(static_cast<double>(narrow)) > std::fabs(value)) --bits;
    bits |= 1;
  }
  return static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

}  // namespace

Type type_named(const std::string& name) {
  const auto found = names.find(name);
  return found == names.end() ? Type::none : found->second;
}

int bytes_of(Type type) {
  switch (type) {
    case Type::none: return 0;
    case Type::pred: case Type::b8: case Type::u8: case Type::s8: return 1;
    case Type::b16: case Type::u16: case Type::s16: case Type::f16: case Type::bf16: return 2;
    case Type::b64: case Type::u64: case Type::s64: case Type::f64: return 8;
    default: return 4;
  }
}

bool is_signed(Type type) {
  return type == Type::s8 || type == Type::s16 || type == Type::s32 || type == Type::s64;
}

bool is_float(Type type) {
  return type == Type::f16 || type == Type::bf16 || type == Type::f32 || type == Type::f64;
}

Type half_of(Type pair) {
  return pair == Type::f16x2 ? Type::f16 : pair == Type::bf16x2 ? Type::bf16 : Type::none;
}

std::uint64_t bits_of(float value) {
  return std::isnan(value) ? 0x7fffffffu : std::bit_cast<std::uint32_t>(value);
}

std::uint64_t bits_of(double value) {
  return std::isnan(value) ? 0x7fffffffffffffffull : std::bit_cast<std::uint64_t>(value);
}

double double_of(std::uint64_t bits, Type type) {
  switch (type) {
    case Type::f16: return static_cast<double>(std::bit_cast<_Float16>(static_cast<std::uint16_t>(bits)));
    case Type::bf16: return float_of(bits << 16);
    case Type::f32: return float_of(bits);
    case Type::f64: return std::bit_cast<double>(bits);
    default: fail("no floating-point type");
  }
}

std::uint64_t rounded_to(double value, Type type) {
  if (type == Type::f32) return bits_of(static_cast<float>(value));
  if (type == Type::f64) return bits_of(value);
  if (std::isnan(value)) return 0x7fff;
  return type == Type::bf16 ? bfloat_of(value) : std::bit_cast<std::uint16_t>(static_cast<_Float16>(value));
}

float without_subnormals(float value) {
  return std::fpclassify(value) == FP_SUBNORMAL ? std::copysign(0.0f, value) : value;
}

}  // namespace ptx
