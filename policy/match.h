// Does a rule speak of an action? Apart from Policy, so that authorize and explain cannot disagree.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "policy/policy.h"

namespace mapcap::policy {

/// The first part of `action` that `rule` does not speak of; `none` when it speaks of all.
Part first_mismatch(const Rule& rule, const Subject& subject, const Action& action);

/// All of them, in that order.
std::vector<Part> mismatches(const Rule& rule, const Subject& subject, const Action& action);

/// Whether the rule speaks of a region of that name, to this subject.
bool names_region(const Rule& rule, const Subject& subject, std::string_view name);

/// One of the rule's names as it is held against a region's for this subject: with him in place of "{user}" and "{uid}",
/// and, of a denial that is about who lent him his uid, also with that one.
std::vector<std::string> globs_for(const Rule& rule, const std::string& pattern, const Subject& subject);

/// What the rule says of that part, in the words of the file: "names = alice/**, public/*".
std::string what_it_says(const Rule& rule, Part part);

/// The same, and what the action has instead: "max_size = 64K, and this takes 2M".
std::string why_not(const Rule& rule, Part part, const Action& action);

/// "create alice/a in pool dram", "quota-set".
std::string describe(const Action& action);

}  // namespace mapcap::policy
