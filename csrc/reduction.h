#pragma once

#include <cstdint>
#include <string_view>

namespace dfad {

// As saved for backward; checks.h parses the schema's string.
enum class Reduction : std::int64_t { none, mean, sum };

inline std::string_view name_of(Reduction reduction) {
  switch (reduction) {
    case Reduction::none: return "none";
    case Reduction::mean: return "mean";
    default: return "sum";
  }
}

}  // namespace dfad
