// Inside the loader: the parts of a file.
#pragma once

#include "policy/accounts.h"
#include "policy/load/document.h"
#include "policy/load/section.h"
#include "policy/model.h"
#include "policy/policy.h"

namespace mapcap::policy {

BrokerSettings load_broker(const Table& table, Position at, Problems& problems);

/// A size, or "25%". A share is 1% to 100%.
std::optional<Capacity> read_capacity(Section& section, std::string_view key);

/// Every [pool.NAME]; also what two pools must not do together, and against the broker's own directory.
std::vector<PoolSettings> load_pools(const Table& pools, Position at, const BrokerSettings& broker,
                                     Problems& problems);

/// Every [[rule]] and [[quota]]; pools is for the names that they may use.
std::vector<Rule> load_rules(const Array& rules, const std::vector<PoolSettings>& pools,
                             const Accounts& accounts, Problems& problems);
std::vector<QuotaRule> load_quotas(const Array& quotas, const std::vector<PoolSettings>& pools,
                                   const Accounts& accounts, Problems& problems);

/// Rules, quotas and pools against each other: what is legal and surely not meant, and rules that can never
/// apply.
void examine_the_whole(const Policy& policy, Problems& problems);

/// The same within one rule.
void warn_of_one_rule(Section& section, const Rule& rule);

}  // namespace mapcap::policy
