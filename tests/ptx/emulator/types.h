// PTX's types, and values of them as bits in a register.
#pragma once

#include <bit>
#include <cstdint>
#include <string>

namespace ptx {

enum class Type : std::uint8_t {
  none, pred, b8, u8, s8, b16, u16, s16, f16, bf16, b32, u32, s32, f32, f16x2, bf16x2, b64, u64, s64, f64,
};

Type type_named(const std::string& name);  // Type::none where it names no type
int bytes_of(Type type);
bool is_signed(Type type);
bool is_float(Type type);
Type half_of(Type pair);  // f16 of f16x2; Type::none where it is no pair

constexpr std::uint64_t mask_of(int bytes) {
  return bytes >= 8 ? ~std::uint64_t{0} : (std::uint64_t{1} << (8 * bytes)) - 1;
}

constexpr std::int64_t sign_extended(std::uint64_t bits, int bytes) {
  const int unused = 64 - 8 * bytes;
  return static_cast<std::int64_t>(bits << unused) >> unused;
}

inline float float_of(std::uint64_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits));
}

// A not-a-number is written as a GPU writes it.
std::uint64_t bits_of(float value);
std::uint64_t bits_of(double value);

double double_of(std::uint64_t bits, Type type);
std::uint64_t rounded_to(double value, Type type);  // to the nearest, ties to even

float without_subnormals(float value);

}  // namespace ptx
