// Bytes, durations and modes as people write them, and as strong types.
#pragma once

#include <chrono>
#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace mapcap {

/// A number of bytes, 0 to 2^64-1.
struct ByteCount {
  std::uint64_t value = 0;
  auto operator<=>(const ByteCount&) const = default;
};

constexpr std::uint64_t kPageSize = 4096;
constexpr ByteCount operator""_MiB(unsigned long long n) {
  return {n << 20U};
}
constexpr ByteCount operator""_KiB(unsigned long long n) {
  return {n << 10U};
}

/// Identifies a region for ever: never reused within one ledger. 0 is no region.
struct RegionId {
  std::uint64_t value = 0;
  auto operator<=>(const RegionId&) const = default;
};

/// "4096", "64K", "64M", "1.5G", "2T" (powers of 1024 up to E, either case; an optional "iB" or "B" may
/// follow). A fraction needs a unit, has at most 9 digits and is rounded down to whole bytes. Errors:
/// `invalid` for anything else, negative, or above 2^63-1.
Result<ByteCount> parse_bytes(std::string_view text);
/// The largest unit in which the value is exact to a tenth ("64M", "1.5G"), else plain bytes ("4097"): for
/// tables. parse_bytes takes it back unchanged up to 2^63-1.
std::string format_bytes(ByteCount bytes);
/// The largest unit, rounded to a tenth ("11.8G", "64M", "1023"): for people, where the exact number is told elsewhere.
std::string round_bytes(ByteCount bytes);

/// "500ms", "30s", "5m", "1h", "7d", largest first in a row "1h 5m" or "1h5m" (units d h m s ms us ns), also
/// plain seconds "30". Errors: `invalid`, also above 100 years.
Result<std::chrono::nanoseconds> parse_duration(std::string_view text);
/// "1h 5m", "30s", "250ms": the two largest units that are not zero in a row. For people: the rest is
/// dropped.
std::string format_duration(std::chrono::nanoseconds duration);
/// "1h5m7s": every unit, no blanks; parse_duration takes it back unchanged. For command lines and JSON.
std::string format_duration_exact(std::chrono::nanoseconds duration);
inline constexpr std::chrono::nanoseconds kMaxDuration = std::chrono::hours(24) * 36525;  ///< 100 years

/// "0640" or "640", octal, only permission bits rw for user, group, other (0 to 0666). Errors: `invalid`.
Result<std::uint32_t> parse_mode(std::string_view text);
/// "0640".
std::string format_mode(std::uint32_t mode);

}  // namespace mapcap
