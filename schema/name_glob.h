// Can a glob match any region's name? One that cannot is a mistake: a rule that denies it denies nothing, and
// a list that asks for it is empty for ever.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace mapcap::schema {

/// Longest glob, in bytes.
inline constexpr std::size_t kMaxGlob = 256;

/// Whether "{user}" and "{uid}" stand for (part of) a component, as in a policy's rules.
enum class Placeholders : std::uint8_t { none, known };

/// Why no name that RegionName::parse takes can match `pattern` (glob_match), as the rest of a sentence that
/// begins with the pattern: "matches no name: an empty component at position 8; did you mean
/// \"payroll/**\"?". Empty when one can.
std::string why_no_name_matches(std::string_view pattern, Placeholders placeholders);

}  // namespace mapcap::schema
