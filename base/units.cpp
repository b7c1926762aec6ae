#include "base/units.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <vector>

namespace mapcap {
namespace {

// Wide enough that no product below can overflow before it is checked.
__extension__ using Wide = unsigned __int128;

constexpr std::string_view kByteUnits = "KMGTPE";
constexpr std::uint64_t kLargestSize = (1ULL << 63U) - 1;

struct DurationUnit {
  std::string_view suffix;
  std::int64_t nanoseconds;
};
constexpr std::array<DurationUnit, 7> kDurationUnits{{{"d", 86'400'000'000'000},
                                                      {"h", 3'600'000'000'000},
                                                      {"m", 60'000'000'000},
                                                      {"s", 1'000'000'000},
                                                      {"ms", 1'000'000},
                                                      {"us", 1'000},
                                                      {"ns", 1}}};

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
char upper(char c) {
  return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
}

/// What an error repeats of its input: short, and only bytes that print.
std::string quoted(std::string_view text) {
  std::string shown = "\"";
  for (char c : text.substr(0, 40)) shown += c >= ' ' && c < 0x7f ? c : '?';
  return shown + (text.size() > 40 ? "...\"" : "\"");
}

/// Takes the leading digits off `text`. Absent: there are none, or more than 2^64-1.
std::optional<std::uint64_t> take_number(std::string_view& text) {
  std::uint64_t value = 0;
  const char* end = text.data() + text.size();
  if (text.empty() || !is_digit(text.front())) return std::nullopt;
  const auto [rest, fault] = std::from_chars(text.data(), end, value);
  if (fault != std::errc()) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(rest - text.data()));
  return value;
}

struct Fraction {
  std::uint64_t numerator = 0;
  std::uint64_t denominator = 1;
};

/// Takes ".25" off `text` as 25/100; nothing to take is 0/1. Absent: a point without 1 to 9 digits.
std::optional<Fraction> take_fraction(std::string_view& text) {
  Fraction fraction;
  if (text.empty() || text.front() != '.') return fraction;
  text.remove_prefix(1);
  std::size_t digits = 0;
  for (; !text.empty() && is_digit(text.front()); text.remove_prefix(1)) {
    if (++digits > 9) return std::nullopt;
    fraction.numerator = fraction.numerator * 10 + static_cast<std::uint64_t>(text.front() - '0');
    fraction.denominator *= 10;
  }
  if (digits == 0) return std::nullopt;
  return fraction;
}

}  // namespace

Result<ByteCount> parse_bytes(std::string_view text) {
  const auto refusal = [&](const char* why) {
    return failure(ErrorCode::invalid,
                   "size " + quoted(text) + ": " + why + "; write for example 4096, 64K, 1.5G");
  };
  std::string_view rest = text;
  const std::optional<std::uint64_t> whole = take_number(rest);
  if (!whole) return refusal("not a number of bytes");
  const std::optional<Fraction> fraction = take_fraction(rest);
  if (!fraction) return refusal("a fraction has 1 to 9 digits");

  unsigned shift = 0;
  if (!rest.empty()) {
    const std::size_t unit = kByteUnits.find(upper(rest.front()));
    if (unit != std::string_view::npos) {
      shift = 10 * static_cast<unsigned>(unit + 1);
      rest.remove_prefix(1);
    }
  }
  if (!(rest.empty() || rest == "B" || rest == "b" || (shift != 0 && (rest == "iB" || rest == "ib")))) {
    return refusal("the unit is not one of K, M, G, T, P, E");
  }
  if (shift == 0 && fraction->denominator != 1) return refusal("a fraction of a byte");

  const Wide scale = Wide{1} << shift;
  const Wide value = Wide{*whole} * scale + Wide{fraction->numerator} * scale / fraction->denominator;
  if (value > kLargestSize) return refusal("more than 2^63-1 bytes");
  return ByteCount{static_cast<std::uint64_t>(value)};
}

std::string format_bytes(ByteCount bytes) {
  for (std::size_t unit = kByteUnits.size(); unit > 0; --unit) {
    const Wide scale = Wide{1} << (10 * unit);
    const Wide tenths = Wide{bytes.value} * 10;
    if (bytes.value < scale || tenths % scale != 0) continue;
    const auto count = static_cast<std::uint64_t>(tenths / scale);
    std::string text = std::to_string(count / 10);
    if (count % 10 != 0) text += "." + std::to_string(count % 10);
    return text + kByteUnits[unit - 1];
  }
  return std::to_string(bytes.value);
}

std::string round_bytes(ByteCount bytes) {
  std::size_t unit = kByteUnits.size();
  while (unit > 0 && bytes.value < (Wide{1} << (10 * unit))) --unit;
  if (unit == 0) return std::to_string(bytes.value);
  const auto in_tenths = [&] {
    const Wide scale = Wide{1} << (10 * unit);
    return static_cast<std::uint64_t>((Wide{bytes.value} * 10 + scale / 2) / scale);
  };
  std::uint64_t tenths = in_tenths();
  if (tenths >= 10240 && unit < kByteUnits.size()) {  // 1024K is 1M
    ++unit;
    tenths = in_tenths();
  }
  std::string text = std::to_string(tenths / 10);
  if (tenths % 10 != 0) text += "." + std::to_string(tenths % 10);
  return text + kByteUnits[unit - 1];
}

Result<std::chrono::nanoseconds> parse_duration(std::string_view text) {
  const auto refusal = [&](const char* why) {
    return failure(ErrorCode::invalid,
                   "duration " + quoted(text) + ": " + why + "; write for example 500ms, 30s, 1h, 7d");
  };
  std::string_view rest = text;
  Wide total = 0;
  std::size_t next_unit = 0;
  do {
    const std::optional<std::uint64_t> number = take_number(rest);
    if (!number) return refusal("not a number with a unit");
    const std::size_t letters = std::min(rest.size(), rest.find_first_of(" 0123456789"));
    std::string_view suffix = rest.substr(0, letters);
    if (suffix.empty() && rest.empty() && next_unit == 0) suffix = "s";
    std::size_t unit = next_unit;
    while (unit < kDurationUnits.size() && kDurationUnits.at(unit).suffix != suffix) ++unit;
    if (unit == kDurationUnits.size()) return refusal("units are d, h, m, s, ms, us, ns, the largest first");
    total += Wide{*number} * static_cast<std::uint64_t>(kDurationUnits.at(unit).nanoseconds);
    if (total > static_cast<std::uint64_t>(kMaxDuration.count())) return refusal("more than 100 years");
    next_unit = unit + 1;
    rest.remove_prefix(letters);
    if (rest.size() > 1 && rest.front() == ' ') rest.remove_prefix(1);
  } while (!rest.empty());
  return std::chrono::nanoseconds(static_cast<std::int64_t>(total));
}

namespace {

/// The parts of a duration, largest unit first, zero parts left out: {"1h", 3600 s}, {"5m", ...}.
struct Part {
  std::size_t unit;
  std::string text;
};
std::vector<Part> parts_of(std::uint64_t nanoseconds) {
  std::vector<Part> parts;
  for (std::size_t unit = 0; unit < kDurationUnits.size(); ++unit) {
    const auto scale = static_cast<std::uint64_t>(kDurationUnits.at(unit).nanoseconds);
    const std::uint64_t count = nanoseconds / scale;
    nanoseconds %= scale;
    if (count > 0)
      parts.push_back({unit, std::to_string(count) + std::string(kDurationUnits.at(unit).suffix)});
  }
  if (parts.empty()) parts.push_back({3, "0s"});
  return parts;
}

/// The absolute value, also of the least integer.
std::uint64_t magnitude(std::int64_t value) {
  return value < 0 ? 0 - static_cast<std::uint64_t>(value) : static_cast<std::uint64_t>(value);
}

}  // namespace

std::string format_duration(std::chrono::nanoseconds duration) {
  const std::vector<Part> parts = parts_of(magnitude(duration.count()));
  std::string text = (duration.count() < 0 ? "-" : "") + parts.at(0).text;
  if (parts.size() > 1 && parts.at(1).unit == parts.at(0).unit + 1) text += " " + parts.at(1).text;
  return text;
}

std::string format_duration_exact(std::chrono::nanoseconds duration) {
  std::string text = duration.count() < 0 ? "-" : "";
  for (const Part& part : parts_of(magnitude(duration.count()))) text += part.text;
  return text;
}

Result<std::uint32_t> parse_mode(std::string_view text) {
  std::uint32_t mode = 0;
  const char* end = text.data() + text.size();
  const auto [rest, fault] = std::from_chars(text.data(), end, mode, 8);
  if (text.empty() || text.size() > 4 || fault != std::errc() || rest != end || (mode & ~0666U) != 0) {
    return failure(ErrorCode::invalid,
                   "mode " + quoted(text) +
                       ": not octal permission bits r and w for user, group and others; write "
                       "for example 0640");
  }
  return mode;
}

std::string format_mode(std::uint32_t mode) {
  std::string text = "0";
  for (unsigned shift : {6U, 3U, 0U}) text += static_cast<char>('0' + ((mode >> shift) & 7U));
  return text;
}

}  // namespace mapcap
