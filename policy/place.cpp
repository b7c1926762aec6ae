#include "policy/place.h"

#include <algorithm>
#include <array>

#include "base/glob.h"

namespace mapcap::policy {
namespace {

/// Calls `is` with each cgroup from the root's child down to `path` itself, and with its last component, until it holds.
template <typename Is>
bool any_on_the_way(std::string_view path, Is is) {
  for (std::size_t begin = 1; begin < path.size();) {
    const std::size_t end = std::min(path.find('/', begin), path.size());
    if (is(path.substr(0, end), path.substr(begin, end - begin))) return true;
    begin = end + 1;
  }
  return false;
}

}  // namespace

std::string why_no_unit(std::string_view glob) {
  if (glob.find('/') != std::string_view::npos) return "is a path: say cgroup";
  constexpr std::array<std::string_view, 3> kKinds{".service", ".scope", ".slice"};
  const bool unit = std::any_of(kKinds.begin(), kKinds.end(), [&](std::string_view kind) {
    return glob.size() > kind.size() && glob.ends_with(kind);
  });
  return unit ? "" : "is no unit that processes run in: those end in .service, .scope or .slice";
}

std::string why_no_cgroup(std::string_view glob) {
  if (!glob.starts_with('/')) return "is no path from the root of the cgroups: it begins with /";
  if (glob == "/") return "is the root, below which everybody is";
  if (glob.ends_with('/')) return "ends with /: what is below a cgroup is meant in any case";
  if (glob.find("//") != std::string_view::npos) return "has an empty component";
  return "";
}

bool place_known(const Subject& subject) {
  const std::string& cgroup = subject.label().cgroup;
  // Beyond the root that this broker is shown only the way there is told.
  return !cgroup.empty() && !cgroup.starts_with("/..");
}

bool in_place(const SubjectMatch& match, const Subject& subject) {
  if (!match.placed() || !place_known(subject)) return true;
  const std::string& path = subject.label().cgroup;
  const auto is_unit = [&](std::string_view, std::string_view component) {
    return glob_match(match.unit, component);
  };
  const auto is_cgroup = [&](std::string_view way, std::string_view) {
    return glob_match(match.cgroup, way);
  };
  if (!match.unit.empty() && !any_on_the_way(path, is_unit)) return false;
  return match.cgroup.empty() || any_on_the_way(path, is_cgroup);
}

std::string some_cgroup(const SubjectMatch& match) {
  std::string path = match.cgroup;
  if (!match.unit.empty()) path += "/" + match.unit;
  std::replace_if(
      path.begin(), path.end(), [](char c) { return c == '*' || c == '?'; }, 'x');
  return path;
}

std::string in_words(const SubjectMatch& match) {
  std::string words;
  if (!match.unit.empty()) words = "unit " + match.unit;
  if (!match.cgroup.empty()) words += (words.empty() ? "cgroup " : ", cgroup ") + match.cgroup;
  return words;
}

}  // namespace mapcap::policy
