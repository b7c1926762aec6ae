// A region's name: the only text that a client chooses and the broker keeps.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"

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

/// How far into its component a name has been read.
enum class NamePlace : std::uint8_t { start, dot, dots, inside };
inline constexpr std::size_t kNamePlaces = 4;

/// The grammar of RegionName::parse but for the length, byte by byte: where `c` leads from `place`, or nothing where no
/// name goes on so. A name begins at `start` and may end `inside` only.
std::optional<NamePlace> name_goes_on(NamePlace place, char c);

}  // namespace mapcap::schema
