#include <cmath>

#include "error.h"
#include "semantics.h"

namespace ptx {
namespace {

// The part of a comparison that is the same for floats and integers.
template <class T>
bool ordered(T a, T b, Comparison comparison) {
  switch (comparison) {
    case Comparison::eq: case Comparison::equ: return a == b;
    case Comparison::ne: case Comparison::neu: return a != b;
    case Comparison::lt: case Comparison::ltu: case Comparison::lo: return a < b;
    case Comparison::le: case Comparison::leu: case Comparison::ls: return a <= b;
    case Comparison::gt: case Comparison::gtu: case Comparison::hi: return a > b;
    case Comparison::ge: case Comparison::geu: case Comparison::hs: return a >= b;
    case Comparison::num: return true;
    case Comparison::nan: return false;
  }
  fail("unknown comparison");
}

bool compare_floats(double a, double b, Comparison comparison) {
  if (!std::isnan(a) && !std::isnan(b)) return ordered(a, b, comparison);
  return (comparison >= Comparison::equ && comparison <= Comparison::geu) || comparison == Comparison::nan;
}

bool compare(std::uint64_t a, std::uint64_t b, const Instruction& instruction) {
  const Type type = instruction.type;
  if (is_float(type)) return compare_floats(double_of(a, type), double_of(b, type), instruction.comparison);
  const int bytes = bytes_of(type);
  return is_signed(type) ? ordered(sign_extended(a, bytes), sign_extended(b, bytes), instruction.comparison)
                         : ordered(a & mask_of(bytes), b & mask_of(bytes), instruction.comparison);
}

}  // namespace

void set_predicate(Thread& thread, const Instruction& instruction) {
  const bool holds = compare(read(thread, instruction.sources[0]), read(thread, instruction.sources[1]), instruction);
  const auto combined = [&](bool value) {
    if (instruction.combine == Combine::none) return value;
    const bool other = read_predicate(thread, instruction.sources[2]);
    if (instruction.combine == Combine::with_and) return value && other;
    return instruction.combine == Combine::with_or ? value || other : value != other;
  };
  write(thread, instruction.to[0], combined(holds));
  write(thread, instruction.also_to, combined(!holds));
}

void select(Thread& thread, const Instruction& instruction) {
  const bool first = read_predicate(thread, instruction.sources[2]);
  write(thread, instruction.to[0], read(thread, instruction.sources[first ? 0 : 1]));
}

}  // namespace ptx
