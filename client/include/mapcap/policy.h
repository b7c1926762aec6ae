// What a broker says of its policy.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "mapcap/error.h"
#include "mapcap/types.h"

namespace mapcap {

/// What is wrong, or only odd, at a place of a policy file. Lines and columns count from 1.
struct PolicyProblem {
  std::uint32_t line = 1;
  std::uint32_t column = 1;
  bool warning = false;  ///< Else an error: no broker takes the file.
  std::string message;
};

/// One difference between two policies.
struct PolicyChange {
  std::string what;    ///< "rule added", "quota changed"
  std::string whom;    ///< "group staff", "pool dram"
  std::string place;   ///< "policy.toml:12"; empty: none.
  std::string detail;  ///< "allow names = a/**"
};

/// What came of reading the policy file again: all of the new policy is in force, or none of it.
struct ReloadOutcome {
  std::string file;
  bool in_force = false;
  std::vector<PolicyProblem> problems;  ///< With an error among them it is not in force.
  std::vector<PolicyChange> changes;
  std::uint32_t more = 0;  ///< Problems and changes that the answer had no room for.
};

struct PolicyInForce {
  std::string file;
  std::string sha256;                       ///< Of the text, in hexadecimal.
  std::chrono::nanoseconds loaded_unix{0};  ///< Since 1970-01-01 UTC.
  std::string loaded_by;                    ///< "start", "SIGHUP", "user alice"
  std::uint32_t pools = 0;
  std::uint32_t rules = 0;
  std::uint32_t quotas = 0;
  std::string text;  ///< Of the file, as it was loaded.
};

/// A rule about somebody, held against what he wants.
struct RuleSaid {
  std::string place;  ///< "policy.toml:12"
  bool denies = false;
  std::string subject;  ///< "user alice"
  bool applies = false;
  std::string why;  ///< Why not: "names = a/**".
};

struct PolicyAnswer {
  std::optional<Error> refusal;  ///< Absent: allowed. Else what would be answered.
  std::string policy;            ///< The file's name.
  std::string user;              ///< "user alice", as the policy knows him.
  std::string rule;  ///< The place of the one that allows or denies, "mode", "owner"; empty: none.
  /// What a create would make, in the pool that came closest; or the region that there is. Of its fields name,
  /// pool, owner, group, mode, size, cache, seal and lifetime.
  std::optional<RegionInfo> judged;
  std::vector<RuleSaid> rules;  ///< About the user: the one that decides first, then those that came closest.
  std::uint32_t more = 0;       ///< Rules about the user that are not among them.
};

}  // namespace mapcap
