// A TOML text as a plain tree with positions, in the file's order. toml++ stays in document.cpp.
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"

namespace mapcap::policy {

/// From 1, columns in characters.
struct Position {
  std::uint32_t line = 1;
  std::uint32_t column = 1;
  auto operator<=>(const Position&) const = default;
};

struct Entry;
struct Node;
using Table = std::vector<Entry>;
using Array = std::vector<Node>;

/// A date, time or fraction: TOML has them, a policy does not.
struct Alien {};

struct Node {
  Position at;
  std::variant<Alien, std::string, std::int64_t, bool, Array, Table> value;
};

struct Entry {
  std::string key;
  Position at;  ///< The key's.
  Node node;
};

/// "a string", "a list", ...: for error sentences.
std::string_view kind_of(const Node& node);

/// `source` is the name that errors say. Errors: `invalid`, "SOURCE:LINE:COLUMN: what".
Result<Table> parse_document(std::string_view text, const std::string& source);

}  // namespace mapcap::policy
