// A policy's quotas as the books need them: shares of a pool in bytes.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "broker/books/pools.h"
#include "broker/books/quotas.h"
#include "broker/ledger/table/record.h"
#include "policy/endpoint.h"
#include "policy/policy.h"
#include "schema/request.h"

namespace mapcap::broker {

struct PolicyLimits {
  std::vector<ledger::QuotaRecord> limits;
  std::vector<std::string> rules;  ///< Where the file says each: "policy.toml:12".
};

/// A share without a pool holds in each pool that has no limit of bytes for the same subject.
PolicyLimits limits_of(const policy::Policy& policy, const ServedPools& pools);

/// Those of one endpoint, by pool (the empty one: over all): what it was made with, `own`, and what the policy
/// says of endpoints, whichever is less.
std::vector<std::pair<std::string, Limits>> limits_of(const policy::Policy& policy, const ServedPools& pools,
                                                      const policy::Endpoint& endpoint, const Limits& own);

/// Why nobody could be held to an override, which is then an error `invalid`: connections belong to no pool
/// and no group, and grants are counted only where the kernel tells of their end.
Result<void> check_override(const schema::QuotaSet& ask, const ServedPools& pools);

}  // namespace mapcap::broker
