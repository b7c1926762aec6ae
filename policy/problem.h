// What is wrong, or only odd, in a policy file.
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <vector>

namespace mapcap::policy {

/// From 1, columns in characters.
struct Position {
  std::uint32_t line = 1;
  std::uint32_t column = 1;
  auto operator<=>(const Position&) const = default;
};

/// error: no broker takes the file. warning: legal, and surely not meant.
enum class Severity : std::uint8_t { error, warning };

struct Problem {
  Severity severity = Severity::error;
  Position at;
  std::string message;  ///< One sentence without file and place.
  bool operator==(const Problem&) const = default;
};

}  // namespace mapcap::policy
