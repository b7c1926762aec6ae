// Who may do more, and who less, by another policy: what somebody looks at before he puts it in force.
//
// Each region that there is, and each name that one of the rules' own globs matches, is held against both, for
// everybody about whom their rules differ. So it is found what changes for names that somebody has or had in
// mind, and not every difference that there could be.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "mapcap/region.h"
#include "policy/policy.h"
#include "policy/subject.h"

namespace mapcap::policy {

struct Person {
  std::string called;  ///< "alice", "members of group staff"
  Subject subject;
};

struct Difference {
  std::string whom;
  bool gains = false;
  std::string what;  ///< "open ro, open rw", "create persistent"
  std::string name;  ///< The region's; empty for what is about none.
  std::string pool;  ///< Empty: in every pool.
  std::string why;   ///< "rule old.toml:12 gone"
  bool operator==(const Difference&) const = default;
};

/// How much was done: questions that were put to both policies, or to one.
struct DiffWork {
  std::uint64_t questions = 0;
};

/// `live`: empty where they are not known; then every name that a glob gives stands for a region that its mode
/// closes to nobody. `work`, where not null, becomes what it took: in proportion to the people whom differing rules are
/// about and what those speak of, not to the rules (differing.h).
std::vector<Difference> differences(const Policy& before, const Policy& after, std::span<const Person> people,
                                    std::span<const RegionInfo> live, DiffWork* work = nullptr);

/// Whom both policies' rules name, by their ids: users, a member of each group, somebody else where there is a
/// rule about everybody, the administrator; and the owners of `live`. Asks the machine's accounts for names.
std::vector<Person> people_of(const Policy& before, const Policy& after, std::span<const RegionInfo> live);

}  // namespace mapcap::policy
