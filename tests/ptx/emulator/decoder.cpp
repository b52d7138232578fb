#include "decoder.h"

#include <algorithm>
#include <functional>
#include <unordered_map>

#include "error.h"
#include "semantics.h"
#include "text.h"

namespace ptx {
namespace {

using Words = std::vector<std::string>;

bool has(const Words& modifiers, const std::string& modifier) {
  return std::find(modifiers.begin(), modifiers.end(), modifier) != modifiers.end();
}

// What one thread computes from its operands: destination first.
const std::unordered_map<std::string, Execute> computations = {
    {"add", add},   {"sub", subtract}, {"mul", multiply}, {"mad", multiply_add}, {"fma", fused_multiply_add},
    {"div", divide}, {"rem", remainder}, {"min", minimum}, {"max", maximum},      {"abs", absolute},
    {"neg", negate}, {"sqrt", square_root}, {"rcp", reciprocal}, {"ex2", exponential}, {"lg2", logarithm},
    {"and", bits_and}, {"or", bits_or}, {"xor", bits_xor}, {"not", bits_not}, {"shl", shift_left},
    {"shr", shift_right}, {"bfe", extract_bits}, {"bfi", insert_bits}, {"prmt", permute_bytes},
    {"selp", select}, {"cvt", convert}, {"cvta", move}, {"setp", set_predicate},
};

const std::unordered_map<std::string, Comparison> comparisons = {
    {"eq", Comparison::eq},   {"ne", Comparison::ne},   {"lt", Comparison::lt},   {"le", Comparison::le},
    {"gt", Comparison::gt},   {"ge", Comparison::ge},   {"lo", Comparison::lo},   {"ls", Comparison::ls},
    {"hi", Comparison::hi},   {"hs", Comparison::hs},   {"equ", Comparison::equ}, {"neu", Comparison::neu},
    {"ltu", Comparison::ltu}, {"leu", Comparison::leu}, {"gtu", Comparison::gtu}, {"geu", Comparison::geu},
    {"num", Comparison::num}, {"nan", Comparison::nan},
};

const std::unordered_map<std::string, Rounding> roundings = {
    {"rn", Rounding::nearest},          {"rz", Rounding::zero},
    {"rm", Rounding::down},             {"rp", Rounding::up},
    {"rni", Rounding::to_integer},      {"rzi", Rounding::to_integer_zero},
    {"rmi", Rounding::to_integer_down}, {"rpi", Rounding::to_integer_up},
};

const std::unordered_map<std::string, Space> spaces = {
    {"global", Space::global}, {"shared", Space::shared}, {"param", Space::parameter}, {"local", Space::local},
};

void read_modifiers(const Words& modifiers, Instruction& instruction) {
  for (const std::string& modifier : modifiers) {
    if (const Type type = type_named(modifier); type != Type::none) {
      (instruction.type == Type::none ? instruction.type : instruction.from) = type;
    }
    const auto comparison = comparisons.find(modifier);
    if (comparison != comparisons.end()) instruction.comparison = comparison->second;
    if (const auto found = roundings.find(modifier); found != roundings.end()) instruction.rounding = found->second;
    if (const auto found = spaces.find(modifier); found != spaces.end()) instruction.space = found->second;
  }
  instruction.flush = has(modifiers, "ftz");
  instruction.saturate = has(modifiers, "sat");
  instruction.keep_nan = has(modifiers, "NaN");
  instruction.combine = has(modifiers, "and")  ? Combine::with_and
                        : has(modifiers, "or") ? Combine::with_or
                        : has(modifiers, "xor") ? Combine::with_xor
                                                : Combine::none;
}

// "a|p": a result and a predicate.
void read_pair(const std::string& text, const Names& names, Instruction& instruction) {
  const std::size_t bar = text.find('|');
  instruction.to = {names.operand(trimmed(text.substr(0, bar)))};
  if (bar != std::string::npos) instruction.also_to = names.operand(trimmed(text.substr(bar + 1)));
}

void read_sources(const Words& operands, std::size_t first, const Names& names, Instruction& instruction) {
  for (std::size_t k = first; k < operands.size(); ++k) instruction.sources.push_back(names.operand(operands[k]));
}

// Runs on all lanes of a warp that its last operand, a mask, names.
void decode_warp(
    const std::string& name, const Words& modifiers, const Words& operands, const Names& names,
    Instruction& instruction) {
  instruction.scope = Scope::warp;
  for (const char* variant : {"up", "down", "bfly", "idx", "add", "min", "max", "all", "any", "ballot", "warp"}) {
    if (has(modifiers, variant)) instruction.variant = variant;
  }
  if (name == "ldmatrix") {
    instruction.to = names.vector(operands.at(0));
    names.address(operands.at(1), instruction);
    instruction.sources = {names.operand("0xffffffff")};
    if (!has(modifiers, "m8n8") || has(modifiers, "trans")) fail("unknown matrix: " + instruction.text);
    return;
  }
  const bool barrier = name == "bar";
  if (!barrier) read_pair(operands.at(0), names, instruction);
  read_sources(operands, barrier ? 0 : 1, names, instruction);
}

void decode_block_barrier(const Words& modifiers, const Words& operands, const Names& names, Instruction& instruction) {
  instruction.scope = Scope::block;
  if (!has(modifiers, "sync") || operands.size() != 1 || names.operand(operands[0]).value != 0) {
    fail("unknown barrier: " + instruction.text);
  }
}

void decode_atomic(const Words& modifiers, const Words& operands, const Names& names, Instruction& instruction) {
  const bool increments = has(modifiers, "inc") && instruction.type == Type::u32;
  const bool takes_larger = has(modifiers, "max") && is_signed(instruction.type);
  const bool known_space = instruction.space == Space::global || instruction.space == Space::shared;
  if (!known_space || (!increments && !takes_larger)) fail("unknown atomic operation: " + instruction.text);
  instruction.execute = increments ? increment_wrapping : atomic_maximum;
  instruction.to = {names.operand(operands.at(0))};
  names.address(operands.at(1), instruction);
  read_sources(operands, 2, names, instruction);
}

void decode_operation(
    const std::string& name, const Words& modifiers, const Words& operands, const Names& names,
    Instruction& instruction) {
  if (const auto found = computations.find(name); found != computations.end()) {
    instruction.execute = found->second;
    if (name == "mul" && has(modifiers, "wide")) instruction.execute = multiply_wide;
    if (name == "mul" && has(modifiers, "hi")) instruction.execute = multiply_high;
    if (name == "mad" && has(modifiers, "wide")) instruction.execute = multiply_add_wide;
    if (name == "rcp" && has(modifiers, "approx")) instruction.execute = approximate_reciprocal;
    read_pair(operands.at(0), names, instruction);
    read_sources(operands, 1, names, instruction);
  } else if (name == "mov") {
    instruction.execute = move;
    instruction.to = names.vector(operands.at(0));
    instruction.sources = names.vector(operands.at(1));
  } else if (name == "ld") {
    instruction.execute = load_registers;
    instruction.to = names.vector(operands.at(0));
    names.address(operands.at(1), instruction);
  } else if (name == "st") {
    instruction.execute = store_registers;
    names.address(operands.at(0), instruction);
    instruction.sources = names.vector(operands.at(1));
  } else if (name == "atom") {
    decode_atomic(modifiers, operands, names, instruction);
  } else if (name == "membar") {
    if (!has(modifiers, "gl")) fail("unknown fence: " + instruction.text);
    instruction.execute = fence;
  } else if (name == "bra") {
    instruction.scope = Scope::branch;
    instruction.label = operands.at(0);
  } else if (name == "ret" || name == "exit") {
    instruction.scope = Scope::exit;
  } else if (name == "bar" && !has(modifiers, "warp")) {
    decode_block_barrier(modifiers, operands, names, instruction);
  } else if (name == "shfl" || name == "redux" || name == "vote" || name == "bar" || name == "ldmatrix") {
    decode_warp(name, modifiers, operands, names, instruction);
  } else {
    fail("unknown instruction: " + instruction.text);
  }
}

}  // namespace

Instruction decode(const std::string& statement, const Names& names) {
  Instruction instruction;
  instruction.text = statement;
  std::replace(instruction.text.begin(), instruction.text.end(), '\n', ' ');
  std::replace(instruction.text.begin(), instruction.text.end(), '\t', ' ');
  std::string rest = instruction.text;
  if (rest[0] == '@') {
    const std::size_t space = rest.find(' ');
    instruction.guard = names.operand(rest.substr(1, space - 1));
    rest = trimmed(rest.substr(space));
  }
  const std::size_t space = rest.find(' ');
  instruction.operation = rest.substr(0, space);
  const Words operands = split_operands(space == std::string::npos ? "" : rest.substr(space));
  std::string plain = instruction.operation;
  if (const std::size_t window = plain.find("::cta"); window != std::string::npos) plain.erase(window, 5);
  Words modifiers = split(plain, '.');
  const std::string name = modifiers.front();
  modifiers.erase(modifiers.begin());
  read_modifiers(modifiers, instruction);
  decode_operation(name, modifiers, operands, names, instruction);
  return instruction;
}

}  // namespace ptx
