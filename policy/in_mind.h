// What rules have in mind: a name that each of their globs matches, and where their times and sizes end. What two policies
// are compared by, where nothing else says which regions there might be.
#pragma once

#include <chrono>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "policy/policy.h"
#include "policy/subject.h"

namespace mapcap::policy {

/// Whoever is meant by a rule about a group, or about everybody.
Subject somebody(std::vector<std::uint32_t> groups);

/// What a rule without names has in mind.
inline constexpr const char* kAnyName = "any/name";

/// A name that the glob matches, for this person; empty: none was found.
std::string name_like(std::string glob, const Subject& subject);

/// Where rules end.
struct Steps {
  std::set<std::chrono::nanoseconds> ttls{std::chrono::seconds(1), kMaxDuration};
  std::set<std::uint64_t> sizes{kPageSize, std::uint64_t{1} << 62U};

  void add(const Rule& rule);
};

/// Of the rules about everybody, of two policies together. It is found once and not for each person.
struct Everybodys {
  Everybodys(const Policy& before, const Policy& after);

  std::vector<std::string> names;                 ///< Sorted.
  std::vector<std::string> globs_with_the_asker;  ///< Those with "{user}" or "{uid}": a name for each person.
  Steps steps;
};

}  // namespace mapcap::policy
