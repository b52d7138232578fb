// A module of PTX as the emulator keeps it: kernels, each a list of decoded instructions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "types.h"

namespace ptx {

struct Thread;
struct Instruction;
using Execute = void (*)(Thread&, const Instruction&);

enum class Special : std::uint8_t { thread, block, block_size, grid_size, lane, zero, one };

struct Operand {
  enum class Kind : std::uint8_t { none, reg, immediate, special, discarded };

  Kind kind = Kind::none;
  bool negated = false;
  int bytes = 0;
  int index = 0;  // of the register
  Special special = Special::zero;
  std::uint64_t value = 0;
};

// Who takes part in an instruction: one thread, the lanes of a warp, or the block.
enum class Scope : std::uint8_t { thread, branch, exit, warp, block };

enum class Space : std::uint8_t { generic, global, shared, parameter, local };

enum class Comparison : std::uint8_t {
  eq, ne, lt, le, gt, ge, lo, ls, hi, hs, equ, neu, ltu, leu, gtu, geu, num, nan,
};

enum class Combine : std::uint8_t { none, with_and, with_or, with_xor };

enum class Rounding : std::uint8_t {
  nearest, zero, down, up, to_integer, to_integer_zero, to_integer_down, to_integer_up,
};

struct Instruction {
  Scope scope = Scope::thread;
  Execute execute = nullptr;
  Type type = Type::none;
  Type from = Type::none;  // what is converted or compared, where that is another type
  Operand guard;
  std::vector<Operand> to;
  Operand also_to;  // setp's and shfl's second result, a predicate
  std::vector<Operand> sources;
  Space space = Space::generic;
  Operand base;
  std::int64_t offset = 0;
  int target = -1;
  Comparison comparison = Comparison::eq;
  Combine combine = Combine::none;
  Rounding rounding = Rounding::nearest;
  bool flush = false;      // subnormals are zero
  bool saturate = false;   // to 0 ... 1
  bool keep_nan = false;   // in min and max
  std::string operation;   // with all modifiers, as "shfl.sync.bfly.b32"
  std::string variant;     // the modifier that tells warp-wide operations apart
  std::string label;
  std::string text;
};

struct Parameter {
  std::string name;
  std::size_t bytes = 0;
  std::size_t offset = 0;
};

struct Register {
  std::string name;
  int bytes = 0;
};

struct Kernel {
  std::string name;
  std::vector<Parameter> parameters;
  std::vector<char> arguments;  // parameter space; stays where it is, as instructions hold its address
  std::vector<Register> registers;
  std::vector<Instruction> code;
  std::map<std::string, std::uint64_t> locals;
  std::size_t local_bytes = 0;
  unsigned most_threads = 0;      // .maxntid
  unsigned required_threads = 0;  // .reqntid
};

struct Module {
  std::string label;
  std::map<std::string, std::unique_ptr<Kernel>> kernels;
  std::map<std::string, std::uint64_t> shared;
  std::size_t shared_bytes = 0;
  bool dynamic_shared = false;
};

}  // namespace ptx
