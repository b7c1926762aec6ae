// Does a rule speak of an action? Apart from Policy, so that authorize and explain cannot disagree.
#pragma once

#include <cstdint>
#include <string>

#include "policy/policy.h"

namespace mapcap::policy {

/// The properties of an action in the order in which a rule is held against them. A later one is a closer
/// miss.
enum class Part : std::uint8_t { subject, verb, name, pool, rights, cache, lifetime, ttl, size, seal, none };

/// The first part of `action` that `rule` does not speak of; `none` when it speaks of all.
Part first_mismatch(const Rule& rule, const Subject& subject, const Action& action);

/// What the rule says of that part, in the words of the file: "names = alice/**, public/*".
std::string what_it_says(const Rule& rule, Part part);

/// "create alice/a in pool dram", "quota-set".
std::string describe(const Action& action);

}  // namespace mapcap::policy
