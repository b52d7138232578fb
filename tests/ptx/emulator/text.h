#pragma once

#include <string>
#include <vector>

namespace ptx {

std::string trimmed(const std::string& text);
std::vector<std::string> words_of(const std::string& text);
std::vector<std::string> split(const std::string& text, char separator);

// At the commas that are in no brackets.
std::vector<std::string> split_operands(const std::string& text);

// Without comments, line numbers and debug sections.
std::string without_remarks(const std::string& text);

bool begins_with(const std::string& text, const std::string& start);

}  // namespace ptx
