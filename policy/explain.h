// What would be answered to whom, and why: by the functions that the broker answers by (plan.h, judge.h).
#pragma once

#include <optional>
#include <span>

#include "mapcap/policy_info.h"
#include "policy/judge.h"
#include "policy/plan.h"
#include "schema/reply.h"

namespace mapcap::policy {

/// Rules that one answer tells of.
inline constexpr std::size_t kRulesTold = 32;

struct Question {
  Verb verb = Verb::open;
  const PolicyQuestion& asked;
  std::span<const Offer> offers;     ///< Of a create.
  std::optional<Existing> existing;  ///< Of every other verb about a region; absent: there is none.
};

/// Of a region that is not to be seen, the detail "because" says why: only for who may know that there is one.
/// Whether anybody else's region, a quota or what a region is just now stands in the way is for the broker to
/// add.
schema::Explained explain(const Policy& policy, const Subject& subject, const Question& question);

}  // namespace mapcap::policy
