// The glob and the names' grammar (name_goes_on) are walked together: for every place that a name can have
// reached when the glob has been matched so far, the length of the shortest such name. Where no place is
// left, no name matches.
#include "schema/name_glob.h"

#include <algorithm>
#include <array>
#include <limits>
#include <vector>

#include "base/nearest.h"
#include "schema/region_name.h"

namespace mapcap::schema {
namespace {

constexpr std::size_t kNever = std::numeric_limits<std::size_t>::max();

constexpr std::array<NamePlace, kNamePlaces> kPlaces{NamePlace::start, NamePlace::dot, NamePlace::dots,
                                                     NamePlace::inside};

/// By place: the bytes of the shortest name that gets there.
using Shortest = std::array<std::size_t, kNamePlaces>;

constexpr std::size_t index_of(NamePlace place) {
  return static_cast<std::size_t>(place);
}

/// Where any one byte leads: [place][0] but for a slash, [place][1] with it.
using Steps = std::array<std::array<std::vector<NamePlace>, 2>, kNamePlaces>;

const Steps& steps_of_any_byte() {
  static const Steps kSteps = [] {
    Steps steps;
    for (const NamePlace place : kPlaces) {
      for (int byte = 0; byte < 256; ++byte) {
        const std::optional<NamePlace> next = name_goes_on(place, static_cast<char>(byte));
        if (!next) continue;
        for (const std::size_t with_slash : {0U, 1U}) {
          if (byte == '/' && with_slash == 0) continue;
          std::vector<NamePlace>& known = steps.at(index_of(place)).at(with_slash);
          if (std::find(known.begin(), known.end(), *next) == known.end()) known.push_back(*next);
        }
      }
    }
    return steps;
  }();
  return kSteps;
}

/// One byte further, any that a wildcard takes.
Shortest any_byte(const Shortest& from, bool slash_too) {
  Shortest to;
  to.fill(kNever);
  for (const NamePlace place : kPlaces) {
    const std::size_t length = from.at(index_of(place));
    if (length == kNever) continue;
    for (const NamePlace next : steps_of_any_byte().at(index_of(place)).at(slash_too ? 1 : 0)) {
      to.at(index_of(next)) = std::min(to.at(index_of(next)), length + 1);
    }
  }
  return to;
}

/// As many bytes further as one likes. Each place is reached within as many steps as there are places.
Shortest any_bytes(Shortest reached, bool slash_too) {
  for (std::size_t i = 0; i < kNamePlaces; ++i) {
    const Shortest further = any_byte(reached, slash_too);
    for (std::size_t place = 0; place < kNamePlaces; ++place)
      reached.at(place) = std::min(reached.at(place), further.at(place));
  }
  return reached;
}

Shortest one_byte(const Shortest& from, char c) {
  Shortest to;
  to.fill(kNever);
  for (const NamePlace place : kPlaces) {
    const std::size_t length = from.at(index_of(place));
    const std::optional<NamePlace> next = length == kNever ? std::nullopt : name_goes_on(place, c);
    if (next) to.at(index_of(*next)) = std::min(to.at(index_of(*next)), length + 1);
  }
  return to;
}

/// A user's name or uid: a component of its own or a part of one, neither "." nor "..".
Shortest a_user(const Shortest& from) {
  Shortest to;
  to.fill(kNever);
  to.at(index_of(NamePlace::inside)) = *std::min_element(from.begin(), from.end()) + 1;
  return to;
}

bool none(const Shortest& reached) {
  return std::all_of(reached.begin(), reached.end(), [](std::size_t length) { return length == kNever; });
}

bool only_at(const Shortest& reached, NamePlace place) {
  for (const NamePlace other : kPlaces) {
    if ((reached.at(index_of(other)) != kNever) != (other == place)) return false;
  }
  return true;
}

std::string shown(char c) {
  return c > ' ' && c < 0x7f ? std::string("'") + c + "'" : "this character";
}

/// What is wrong with `c` after names that reached so far, and none of which goes on.
std::string why_not(const Shortest& reached, char c, std::size_t position, Placeholders placeholders) {
  const std::string where = " at position " + std::to_string(position);
  if (c == '/') {
    if (position == 0) return "names begin with no slash";
    if (only_at(reached, NamePlace::start)) return "an empty component" + where;
    return "a component \".\" or \"..\" before the slash" + where;
  }
  if (c == '-') return "a component that begins with '-'" + where;
  if (c == ' ') return "no name has a blank, as at position " + std::to_string(position);
  return "no name has " + shown(c) + where + "; globs know * ? **" +
         (placeholders == Placeholders::known ? " {user} {uid}" : "");
}

std::string why_not_the_end(const Shortest& reached) {
  if (only_at(reached, NamePlace::start)) return "names end with no slash";
  return "its last component is \".\" or \"..\"";
}

/// The whole walk. Empty: a name matches.
std::string fault_of(std::string_view pattern, Placeholders placeholders) {
  if (pattern.size() > kMaxGlob) return "it is longer than 256 bytes";
  Shortest reached;
  reached.fill(kNever);
  reached.at(index_of(NamePlace::start)) = 0;
  for (std::size_t i = 0; i < pattern.size();) {
    Shortest next{};
    std::size_t length = 1;
    const std::string_view rest = pattern.substr(i);
    if (rest.starts_with('*')) {
      length = std::min(rest.find_first_not_of('*'), rest.size());
      next = any_bytes(reached, length > 1);
    } else if (rest.starts_with('?')) {
      next = any_byte(reached, false);
    } else if (placeholders == Placeholders::known &&
               (rest.starts_with("{user}") || rest.starts_with("{uid}"))) {
      length = rest.find('}') + 1;
      next = a_user(reached);
    } else {
      next = one_byte(reached, rest.front());
    }
    if (none(next)) return why_not(reached, rest.front(), i, placeholders);
    reached = next;
    i += length;
  }
  const std::size_t shortest = reached.at(index_of(NamePlace::inside));
  if (shortest == kNever) return pattern.empty() ? "it is empty" : why_not_the_end(reached);
  if (shortest > RegionName::kMaxLength) {
    return "names have at most " + std::to_string(RegionName::kMaxLength) + " bytes, and this takes " +
           std::to_string(shortest);
  }
  return "";
}

/// The pattern as it was perhaps meant: without components that no name has, and with all below it for a
/// directory.
std::string mended(std::string_view pattern) {
  std::string text;
  for (std::size_t start = 0; start <= pattern.size();) {
    const std::size_t end = std::min(pattern.find('/', start), pattern.size());
    const std::string_view component = pattern.substr(start, end - start);
    if (!component.empty() && component != "." && component != "..") {
      text += (text.empty() ? "" : "/") + std::string(component);
    }
    start = end + 1;
  }
  return pattern.ends_with('/') && !text.empty() ? text + "/**" : text;
}

}  // namespace

std::string why_no_name_matches(std::string_view pattern, Placeholders placeholders) {
  const std::string fault = fault_of(pattern, placeholders);
  if (fault.empty()) return "";
  std::string better = mended(pattern);
  const std::size_t brace = pattern.find('{');
  const std::size_t end = brace == std::string_view::npos ? brace : pattern.find('}', brace);
  if (placeholders == Placeholders::known && end != std::string_view::npos) {
    const std::string_view meant = nearest(pattern.substr(brace, end + 1 - brace), {"{user}", "{uid}"});
    if (!meant.empty())
      better =
          std::string(pattern.substr(0, brace)) + std::string(meant) + std::string(pattern.substr(end + 1));
  }
  const bool helps = better != pattern && !better.empty() && fault_of(better, placeholders).empty();
  return "matches no name: " + fault + (helps ? "; did you mean \"" + better + "\"?" : "");
}

}  // namespace mapcap::schema
