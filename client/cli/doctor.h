// What this machine can enforce, as a list of facts.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "client/cli/command.h"
#include "policy/confinement.h"

namespace mapcap::cli {

/// ok: there. missing: not there. unknown: cannot be told by this user.
enum class FindingState : std::uint8_t { ok, missing, unknown };
std::string_view to_string(FindingState state);

struct Finding {
  std::string fact;  ///< "FUSE passthrough"
  FindingState state = FindingState::ok;
  std::string found;    ///< What was seen.
  std::string remedy;   ///< What to do when it is missing; empty when it is there.
  bool needed = false;  ///< The default policy cannot be served without it.
};

/// As far as this user may find out.
policy::ConfinementFacts confinement_facts();

std::vector<Finding> examine(const Common& common, const DoctorCommand& command);

}  // namespace mapcap::cli
