#include "text.h"

#include <sstream>

namespace ptx {

std::string trimmed(const std::string& text) {
  const char* const spaces = " \t\r\n";
  const std::size_t begin = text.find_first_not_of(spaces);
  return begin == std::string::npos ? "" : text.substr(begin, text.find_last_not_of(spaces) - begin + 1);
}

std::vector<std::string> words_of(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> words;
  for (std::string word; stream >> word;) words.push_back(word);
  return words;
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) parts.push_back(part);
  return parts;
}

std::vector<std::string> split_operands(const std::string& text) {
  std::vector<std::string> operands;
  std::string operand;
  int depth = 0;
  for (const char c : text) {
    if (c == '{' || c == '[') ++depth;
    if (c == '}' || c == ']') --depth;
    if (c == ',' && depth == 0) {
      operands.push_back(trimmed(operand));
      operand.clear();
    } else {
      operand += c;
    }
  }
  if (!trimmed(operand).empty()) operands.push_back(trimmed(operand));
  return operands;
}

std::string without_remarks(const std::string& text) {
  std::string kept;
  for (const std::string& line : split(text, '\n')) {
    const std::string code = trimmed(line.substr(0, line.find("//")));
    if (begins_with(code, ".section")) break;
    if (begins_with(code, ".loc\t") || begins_with(code, ".loc ") || begins_with(code, ".file")) continue;
    kept += code + "\n";
  }
  std::size_t begin;
  while ((begin = kept.find("/*")) != std::string::npos) kept.erase(begin, kept.find("*/", begin) + 2 - begin);
  return kept;
}

bool begins_with(const std::string& text, const std::string& start) {
  return text.compare(0, start.size(), start) == 0;
}

}  // namespace ptx
