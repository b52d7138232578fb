#include "names.h"

#include <cctype>
#include <cstdlib>

#include "error.h"
#include "text.h"

namespace ptx {
namespace {

const std::map<std::string, Special> specials = {
    {"%tid.x", Special::thread},       {"%tid.y", Special::zero},     {"%tid.z", Special::zero},
    {"%ctaid.x", Special::block},      {"%ctaid.y", Special::zero},   {"%ctaid.z", Special::zero},
    {"%ntid.x", Special::block_size},  {"%ntid.y", Special::one},     {"%ntid.z", Special::one},
    {"%nctaid.x", Special::grid_size}, {"%nctaid.y", Special::one},   {"%nctaid.z", Special::one},
    {"%laneid", Special::lane},
};

// 12, -3, 0x1f, 0f3F800000 (a float's bits), 0d3FF0000000000000 (a double's).
bool number_of(const std::string& text, std::uint64_t& value) {
  const bool bits = text.size() > 2 && text[0] == '0' && std::string("fFdD").find(text[1]) != std::string::npos;
  const std::string digits = bits ? "0x" + text.substr(2) : text;
  const std::size_t sign = digits[0] == '-';
  if (sign >= digits.size() || !std::isdigit(static_cast<unsigned char>(digits[sign]))) return false;
  char* end = nullptr;
  value = std::strtoull(digits.c_str(), &end, 0);
  return *end == '\0' || std::string(end) == "U";
}

Operand immediate(std::uint64_t value) {
  Operand operand;
  operand.kind = Operand::Kind::immediate;
  operand.bytes = 8;
  operand.value = value;
  return operand;
}

}  // namespace

void Names::declare_register(const std::string& name, int bytes) {
  scopes_.back()[name] = static_cast<int>(kernel_.registers.size());
  kernel_.registers.push_back({name, bytes});
}

void Names::declare_registers(const std::string& declaration) {
  const std::size_t space = declaration.find_first_of(" \t");
  const int bytes = bytes_of(type_named(declaration.substr(0, space)));
  if (bytes == 0) fail("registers of an unknown type: " + declaration);
  for (const std::string& name : split_operands(declaration.substr(space))) {
    const std::size_t count = name.find('<');
    if (count == std::string::npos) {
      declare_register(name, bytes);
      continue;
    }
    const int registers = std::stoi(name.substr(count + 1));
    for (int k = 0; k < registers; ++k) declare_register(name.substr(0, count) + std::to_string(k), bytes);
  }
}

Operand Names::operand(const std::string& text) const {
  Operand found;
  if (text == "_") {
    found.kind = Operand::Kind::discarded;
    return found;
  }
  if (text[0] == '!') {
    found = operand(text.substr(1));
    found.negated = true;
    return found;
  }
  if (std::uint64_t value; number_of(text, value)) return immediate(value);
  for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
    const auto known = scope->find(text);
    if (known == scope->end()) continue;
    found.kind = Operand::Kind::reg;
    found.index = known->second;
    found.bytes = kernel_.registers[static_cast<std::size_t>(found.index)].bytes;
    return found;
  }
  if (const auto special = specials.find(text); special != specials.end()) {
    found.kind = Operand::Kind::special;
    found.special = special->second;
    return found;
  }
  for (const Parameter& parameter : kernel_.parameters) {
    if (parameter.name == text) {
      return immediate(reinterpret_cast<std::uint64_t>(kernel_.arguments.data()) + parameter.offset);
    }
  }
  if (const auto local = kernel_.locals.find(text); local != kernel_.locals.end()) return immediate(local->second);
  if (const auto shared = module_.shared.find(text); shared != module_.shared.end()) return immediate(shared->second);
  fail("unknown operand " + text);
}

std::vector<Operand> Names::vector(const std::string& text) const {
  if (text[0] != '{') return {operand(text)};
  std::vector<Operand> operands;
  for (const std::string& one : split_operands(text.substr(1, text.find('}') - 1))) operands.push_back(operand(one));
  return operands;
}

void Names::address(const std::string& text, Instruction& instruction) const {
  const std::string inside = trimmed(text.substr(1, text.rfind(']') - 1));
  const std::size_t plus = inside.find('+');
  instruction.base = operand(trimmed(inside.substr(0, plus)));
  if (plus == std::string::npos) return;
  std::uint64_t offset;
  if (!number_of(trimmed(inside.substr(plus + 1)), offset)) fail("an offset that is no number: " + text);
  instruction.offset = static_cast<std::int64_t>(offset);
}

}  // namespace ptx
