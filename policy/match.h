// Does a rule speak of an action? Apart from Policy, so that authorize and explain cannot disagree.
#pragma once

#include <string>
#include <vector>

#include "policy/policy.h"

namespace mapcap::policy {

/// The first part of `action` that `rule` does not speak of; `none` when it speaks of all.
Part first_mismatch(const Rule& rule, const Subject& subject, const Action& action);

/// All of them, in that order.
std::vector<Part> mismatches(const Rule& rule, const Subject& subject, const Action& action);

/// What the rule says of that part, in the words of the file: "names = alice/**, public/*".
std::string what_it_says(const Rule& rule, Part part);

/// The same, and what the action has instead: "max_size = 64K, and this takes 2M".
std::string why_not(const Rule& rule, Part part, const Action& action);

/// "create alice/a in pool dram", "quota-set".
std::string describe(const Action& action);

}  // namespace mapcap::policy
