// Globs over names, compiled once and matched in a time that no pattern makes long.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace mapcap {

/// Shell-style match over whole strings: '?' one character but '/', '*' any but '/', '**' anything.
class Glob {
 public:
  explicit Glob(std::string_view pattern);

  /// Takes one step for each byte of `text` and each 64 of the pattern, however many stars that has. Adds
  /// them to `steps`.
  [[nodiscard]] bool matches(std::string_view text, std::size_t* steps = nullptr) const;

  /// What stands before the first wildcard: whatever matches begins with it.
  [[nodiscard]] const std::string& plain() const { return plain_; }

 private:
  /// Places in the pattern, one bit each.
  using Places = std::vector<std::uint64_t>;
  [[nodiscard]] std::size_t words() const { return star_.size(); }

  std::string plain_;
  bool wild_ = false;    ///< Something follows the plain part.
  std::size_t end_ = 0;  ///< The place behind the last one.
  Places literal_;       ///< For each byte, words() of them: where it stands.
  Places one_;           ///< '?'
  Places within_;        ///< '*'
  Places across_;        ///< "**"
  Places star_;          ///< Either of the two.
};

/// One match with a pattern that is used once.
bool glob_match(std::string_view pattern, std::string_view text);

}  // namespace mapcap
