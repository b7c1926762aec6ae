// Where the policy in force came from, and how another comes into force: what the verbs about policies need of
// whoever reads the file (broker/reload.h).
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "broker/wait/task.h"
#include "mapcap/policy_info.h"
#include "policy/subject.h"
#include "schema/reply.h"

namespace mapcap::broker {

class PolicySource {
 public:
  virtual ~PolicySource() = default;

  /// Reads the file again; returns when all of the new policy is in force, or none of it. `by`: who wants it.
  /// Errors: of a file that cannot be read.
  virtual Task<Result<ReloadOutcome>> reload(std::string by) = 0;

  /// The text from `offset` on, as it was when it was loaded.
  [[nodiscard]] virtual schema::PolicyPiece in_force(std::uint64_t offset) const = 0;

  /// The identity that this uid would have on a connection of its own: its groups, as the machine's accounts say.
  virtual Task<policy::Subject> somebody(std::uint32_t uid) = 0;
};

}  // namespace mapcap::broker
