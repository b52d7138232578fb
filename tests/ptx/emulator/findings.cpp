#include "findings.h"

#include <cstdint>
#include <map>

#include "machine.h"

namespace ptx {
namespace {

std::map<std::string, std::uint64_t> findings;

}  // namespace

void report(const std::string& what) {
  const Machine& m = machine();
  ++findings[what + "\t" + m.module->label + ":" + m.kernel->name + "\t" + m.current->text];
}

void report_launch(const std::string& what) {
  ++findings[what + "\t\t"];
}

std::string take_findings() {
  std::string lines;
  for (const auto& [finding, count] : findings) lines += std::to_string(count) + "\t" + finding + "\n";
  findings.clear();
  return lines;
}

}  // namespace ptx
