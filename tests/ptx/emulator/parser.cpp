#include "parser.h"

#include <algorithm>
#include <cctype>

#include "decoder.h"
#include "error.h"
#include "text.h"

namespace ptx {
namespace {

// ".shared .align 8 .b8 name[64]"
struct Variable {
  std::string name;
  std::size_t bytes = 0;
  std::size_t alignment = 0;

  explicit Variable(const std::string& declaration) {
    std::size_t count = 1, of_type = 0;
    bool points = false;
    const std::vector<std::string> words = words_of(declaration);
    for (std::size_t k = 0; k < words.size(); ++k) {
      const std::string& word = words[k];
      if (word == ".ptr") {
        points = true;  // what is said of alignment from here on is about what it points to
      } else if (word == ".align") {
        const auto given = std::stoul(words.at(++k));
        if (!points) alignment = given;
      } else if (word[0] != '.') {
        const std::size_t bracket = word.find('[');
        name = word.substr(0, bracket);
        if (bracket != std::string::npos) count = word[bracket + 1] == ']' ? 0 : std::stoul(word.substr(bracket + 1));
      } else if (of_type == 0) {
        of_type = static_cast<std::size_t>(bytes_of(type_named(word.substr(1))));
      }
    }
    bytes = count * of_type;
    alignment = std::max({alignment, of_type, std::size_t{1}});
  }
};

std::size_t aligned(std::size_t offset, std::size_t alignment) {
  return (offset + alignment - 1) / alignment * alignment;
}

void declare_shared(const std::string& declaration, Module& module) {
  const Variable variable(declaration);
  if (variable.bytes == 0) {
    module.dynamic_shared = true;
    module.shared[variable.name] = 0;
  } else {
    const std::size_t at = aligned(module.shared_bytes, variable.alignment);
    module.shared[variable.name] = at;
    module.shared_bytes = at + variable.bytes;
  }
  if (module.dynamic_shared && module.shared_bytes != 0) fail("static beside dynamic shared memory");
}

void declare_local(const std::string& declaration, Kernel& kernel) {
  const Variable variable(declaration);
  const std::size_t at = aligned(kernel.local_bytes, variable.alignment);
  kernel.locals[variable.name] = at;
  kernel.local_bytes = at + variable.bytes;
}

void declare_parameters(const std::string& declarations, Kernel& kernel) {
  std::size_t end = 0;
  for (const std::string& declaration : split_operands(declarations)) {
    const Variable variable(declaration);
    const std::size_t at = aligned(end, variable.alignment);
    kernel.parameters.push_back({variable.name, variable.bytes, at});
    end = at + variable.bytes;
  }
  kernel.arguments.assign(end, 0);
}

void read_limit(const std::string& head, const std::string& directive, unsigned& limit) {
  const std::size_t at = head.find(directive);
  if (at != std::string::npos) limit = static_cast<unsigned>(std::stoul(head.substr(at + directive.size())));
}

void read_directive(const std::string& statement, Module& module, Kernel& kernel, Names& names) {
  if (begins_with(statement, ".reg")) {
    names.declare_registers(trimmed(trimmed(statement.substr(4)).substr(1)));
  } else if (begins_with(statement, ".shared")) {
    declare_shared(statement, module);
  } else if (begins_with(statement, ".local")) {
    declare_local(statement, kernel);
  } else if (!begins_with(statement, ".pragma")) {
    fail("unknown directive: " + statement);
  }
}

bool is_label(const std::string& text, std::size_t begin, std::size_t& end) {
  const auto in_label = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '$'; };
  end = begin;
  while (end < text.size() && in_label(text[end])) ++end;
  return end > begin && text[end] == ':' && text[end + 1] != ':';
}

void read_body(const std::string& body, Module& module, Kernel& kernel) {
  Names names(module, kernel);
  std::map<std::string, int> labels;
  for (std::size_t at = 0, end; at < body.size();) {
    if (std::isspace(static_cast<unsigned char>(body[at]))) {
      ++at;
    } else if (body[at] == '{') {
      names.open();
      ++at;
    } else if (body[at] == '}') {
      names.close();
      ++at;
    } else if (is_label(body, at, end)) {
      labels[body.substr(at, end - at)] = static_cast<int>(kernel.code.size());
      at = end + 1;
    } else {
      end = body.find(';', at);
      const std::string statement = trimmed(body.substr(at, end - at));
      at = end + 1;
      if (statement.empty()) continue;
      if (statement[0] == '.') {
        read_directive(statement, module, kernel, names);
      } else {
        kernel.code.push_back(decode(statement, names));
      }
    }
  }
  for (Instruction& instruction : kernel.code) {
    if (instruction.scope == Scope::branch) instruction.target = labels.at(instruction.label);
  }
}

std::size_t closing_brace(const std::string& text, std::size_t open) {
  int depth = 0;
  for (std::size_t at = open; at < text.size(); ++at) {
    if (text[at] == '{') ++depth;
    if (text[at] == '}' && --depth == 0) return at;
  }
  fail("a kernel without an end");
}

// The kernel whose head begins at `begin`; returns where it ends.
std::size_t read_kernel(const std::string& text, std::size_t begin, Module& module) {
  const std::size_t open = text.find('(', begin), close = text.find(')', open), brace = text.find('{', close);
  const std::size_t name = text.find(".entry", begin) + 6;
  auto kernel = std::make_unique<Kernel>();
  kernel->name = trimmed(text.substr(name, open - name));
  declare_parameters(text.substr(open + 1, close - open - 1), *kernel);
  const std::string head = text.substr(close, brace - close);
  read_limit(head, ".maxntid", kernel->most_threads);
  read_limit(head, ".reqntid", kernel->required_threads);
  const std::size_t end = closing_brace(text, brace);
  read_body(text.substr(brace + 1, end - brace - 1), module, *kernel);
  module.kernels[kernel->name] = std::move(kernel);
  return end + 1;
}

}  // namespace

std::unique_ptr<Module> parse(const std::string& raw, const std::string& label) {
  auto module = std::make_unique<Module>();
  module->label = label;
  const std::string text = without_remarks(raw);
  for (std::size_t at = 0; (at = text.find_first_not_of(" \t\r\n", at)) != std::string::npos;) {
    const bool one_line = begins_with(text.substr(at, 8), ".version") || begins_with(text.substr(at, 7), ".target") ||
        begins_with(text.substr(at, 8), ".address");
    if (one_line) {
      at = text.find('\n', at);
      continue;
    }
    const std::size_t end = text.find_first_of(";{", at);
    if (end == std::string::npos) break;
    const std::string head = text.substr(at, end - at);
    if (head.find(".entry") != std::string::npos) {
      at = read_kernel(text, at, *module);
      continue;
    }
    if (head.find(".func") != std::string::npos) fail("a function that is no kernel: " + head);
    // Global variables are kept out: a kernel that used one would name an unknown operand.
    if (head.find(".shared") != std::string::npos) declare_shared(trimmed(head), *module);
    at = text.find(';', at) + 1;
  }
  return module;
}

}  // namespace ptx
