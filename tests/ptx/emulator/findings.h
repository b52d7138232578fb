// What was found wrong, each kind once for each instruction, with how often.
#pragma once

#include <string>

namespace ptx {

// Reports a fault at the instruction that the machine executes.
void report(const std::string& what);

// Reports a fault of the launch as a whole.
void report_launch(const std::string& what);

// Lines of "count<tab>what<tab>kernel<tab>instruction"; they are forgotten then.
std::string take_findings();

}  // namespace ptx
