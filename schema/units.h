// Bytes, durations and modes as people write them, and as strong types.
#pragma once

#include <chrono>
#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "schema/result.h"

namespace mapcap::schema {

/// A number of bytes, 0 to 2^64-1.
struct ByteCount {
  std::uint64_t value = 0;
  auto operator<=>(const ByteCount&) const = default;
};

constexpr std::uint64_t kPageSize = 4096;
constexpr ByteCount operator""_MiB(unsigned long long n) { return {n << 20U}; }
constexpr ByteCount operator""_KiB(unsigned long long n) { return {n << 10U}; }

/// Identifies a region for ever: never reused within one ledger. 0 is no region.
struct RegionId {
  std::uint64_t value = 0;
  auto operator<=>(const RegionId&) const = default;
};

/// "4096", "64K", "64M", "1.5G", "2T" (powers of 1024; an optional "iB" or "B" may follow).
/// Errors: `invalid` for anything else, negative, or above 2^63-1.
Result<ByteCount> parse_bytes(std::string_view text);
/// The shortest of "64M", "1.5G", "4096" that is exact to a tenth: for tables.
std::string format_bytes(ByteCount bytes);

/// "500ms", "30s", "5m", "1h", "7d", also plain seconds "30". Errors: `invalid`, also above 100 years.
Result<std::chrono::nanoseconds> parse_duration(std::string_view text);
/// "1h 5m", "30s", "250ms": the two largest units.
std::string format_duration(std::chrono::nanoseconds duration);

/// "0640" or "640", octal, only permission bits rw for user, group, other (0 to 0666). Errors: `invalid`.
Result<std::uint32_t> parse_mode(std::string_view text);
/// "0640".
std::string format_mode(std::uint32_t mode);

/// Shell-style match over whole strings: '?' one character but '/', '*' any but '/', '**' anything.
/// Linear in pattern times text; no recursion that input can deepen.
bool glob_match(std::string_view pattern, std::string_view text);

}  // namespace mapcap::schema
