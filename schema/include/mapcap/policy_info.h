// What a broker says of its policy.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "mapcap/region.h"
#include "mapcap/words.h"

namespace mapcap {

/// What is wrong, or only odd, at a place of a policy file. Lines and columns count from 1.
struct PolicyProblem {
  std::uint32_t line = 1;
  std::uint32_t column = 1;
  bool warning = false;  ///< Else an error: no broker takes the file.
  std::string message;
  bool operator==(const PolicyProblem&) const = default;
};

/// One difference between two policies.
struct PolicyChange {
  std::string what;    ///< "rule added", "pool grown"
  std::string whom;    ///< "group staff", "pool dram"
  std::string place;   ///< "policy.toml:12"; empty: none.
  std::string detail;  ///< "allow names = a/**"
  bool operator==(const PolicyChange&) const = default;
};

/// What came of reading the policy file again: all of the new policy is in force, or none of it.
struct ReloadOutcome {
  std::string file;
  bool in_force = false;
  std::vector<PolicyProblem> problems;  ///< With an error among them it is not in force.
  std::vector<PolicyChange> changes;
  std::uint32_t more = 0;  ///< Problems and changes that the answer had no room for.
  bool operator==(const ReloadOutcome&) const = default;
};

struct PolicyInForce {
  std::string file;
  std::string sha256;                       ///< Of the whole text, in hexadecimal.
  std::chrono::nanoseconds loaded_unix{0};  ///< Since 1970-01-01 UTC.
  std::string loaded_by;                    ///< "start", "SIGHUP", "user alice"
  std::uint32_t pools = 0;
  std::uint32_t rules = 0;
  std::uint32_t quotas = 0;
  std::string text;  ///< Of the file, as it was loaded.
  bool operator==(const PolicyInForce&) const = default;
};

/// What somebody could ask for.
struct PolicyQuestion {
  std::uint32_t uid = 0;           ///< Who would ask.
  std::string verb{};              ///< As rules say it: "create", "quota-set".
  RegionSpec region{};             ///< What a create would ask for; of other verbs its name.
  std::optional<Access> rights{};  ///< Of an open or a clone, and of a create that opens as well.
  std::optional<std::chrono::nanoseconds> ttl{};  ///< Of a renew.
  bool operator==(const PolicyQuestion&) const = default;
};

/// A rule about somebody, held against what he wants.
struct RuleSaid {
  std::string place;  ///< "policy.toml:12"
  bool denies = false;
  std::string subject;  ///< "user alice"
  bool applies = false;
  std::string why;  ///< Why not: "names = a/**".
  bool operator==(const RuleSaid&) const = default;
};

/// By what something was judged.
struct PolicyGrounds {
  std::string policy;  ///< The file's name.
  std::string user;    ///< "user alice", as the policy knows him.
  std::string rule;    ///< The place of the one that allows or denies, "mode", "owner"; empty: none.
  /// What a create would make, in the pool that came closest; or the region that there is. Of its fields name,
  /// pool, owner, group, mode, size, cache, seal and lifetime.
  std::optional<RegionInfo> judged;
  std::vector<RuleSaid> rules;  ///< About the user: the one that decides first, then those that came closest.
  std::uint32_t more = 0;       ///< Rules about the user that are not among them.
  std::string elsewhere{};  ///< Of what is allowed: by which rule, and where, it is denied. Empty: nowhere.
  bool operator==(const PolicyGrounds&) const = default;
};

}  // namespace mapcap
