// A TOML text as a plain tree with positions, in the file's order. toml++ stays in document.cpp.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "policy/problem.h"

namespace mapcap::policy {

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

/// The file as a tree; of lines that are no TOML, `problems` says why (at most kMaxSyntaxProblems), and the
/// tree lacks them.
struct Document {
  Table root;
  std::vector<Problem> problems;
};
inline constexpr std::size_t kMaxSyntaxProblems = 20;
Document parse_document(std::string_view text);

}  // namespace mapcap::policy
