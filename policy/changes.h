// What is different between two policies, entry by entry, in words.
#pragma once

#include <string>
#include <vector>

#include "mapcap/policy_info.h"
#include "policy/policy.h"

namespace mapcap::policy {

/// Null: it has none of that name.
const PoolSettings* pool_named(const Policy& policy, const std::string& name);

/// "allow user alice: names = a/**; verbs = create": the same for rules that say the same.
std::string in_words(const Rule& rule);
/// "bytes = 4G; regions = 16", and nothing of what is not limited.
std::string in_words(const QuotaRule& quota);
/// "25%", "4G"; "all" for nothing.
std::string in_words(const std::optional<Capacity>& capacity);

/// Rules, quotas, pools and [broker], in this order. Moving an entry within its file is no change.
std::vector<PolicyChange> changes_between(const Policy& before, const Policy& after);

}  // namespace mapcap::policy
