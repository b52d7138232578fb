// What an instruction's operands may be called where it stands.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "program.h"

namespace ptx {

class Names {
 public:
  Names(Module& module, Kernel& kernel) : module_(module), kernel_(kernel) { open(); }

  void open() { scopes_.emplace_back(); }
  void close() { scopes_.pop_back(); }
  void declare_registers(const std::string& declaration);  // "pred %p<4>, %q"

  Operand operand(const std::string& text) const;
  std::vector<Operand> vector(const std::string& text) const;  // "{a, b}", or one operand
  void address(const std::string& text, Instruction& instruction) const;  // "[a+16]"

 private:
  void declare_register(const std::string& name, int bytes);

  Module& module_;
  Kernel& kernel_;
  std::vector<std::map<std::string, int>> scopes_;
};

}  // namespace ptx
