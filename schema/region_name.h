// A region's name: the only text that a client chooses and the broker keeps.
#pragma once

#include <compare>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include "schema/result.h"

namespace mapcap::schema {

/// One or more components of [A-Za-z0-9._-], joined by single slashes; no component is "." or "..";
/// none begins with '-'; at most kMaxLength bytes in all. Because of this alphabet a name is safe in a table,
/// a log line, LISTEN_FDNAMES and a file name (after replacing '/').
class RegionName {
 public:
  static constexpr std::size_t kMaxLength = 112;

  /// Errors: `invalid`, saying which byte at which position is wrong, without repeating unprintable bytes.
  static Result<RegionName> parse(std::string_view text);

  [[nodiscard]] const std::string& str() const { return text_; }
  auto operator<=>(const RegionName&) const = default;

 private:
  explicit RegionName(std::string text) : text_(std::move(text)) {}
  std::string text_;
};

}  // namespace mapcap::schema
