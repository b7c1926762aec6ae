#include "broker/books/quota_limits.h"

#include <algorithm>
#include <string>

namespace mapcap::broker {

using ledger::QuotaRecord;

namespace {

Limits& slot_in(PolicyLimits& all, const policy::QuotaRule& rule, const std::string& pool) {
  std::vector<QuotaRecord>& limits = all.limits;
  const auto found = std::find_if(limits.begin(), limits.end(), [&](const QuotaRecord& other) {
    return other.subject == rule.subject && other.id == rule.id && other.pool == pool;
  });
  if (found != limits.end()) return found->limits;
  all.rules.push_back(rule.where);
  return limits.emplace_back(QuotaRecord{rule.subject, rule.id, pool, {}}).limits;
}

}  // namespace

PolicyLimits limits_of(const policy::Policy& policy, const ServedPools& pools) {
  PolicyLimits limits;
  for (const policy::QuotaRule& rule : policy.quotas()) {
    if (rule.limits != Limits{}) slot_in(limits, rule, rule.pool) = rule.limits;
  }
  for (const policy::QuotaRule& rule : policy.quotas()) {
    if (!rule.share) continue;
    for (const auto& served : pools) {
      const std::string& name = served->facts().name;
      if (!rule.pool.empty() && rule.pool != name) continue;
      std::optional<std::uint64_t>& bytes = slot_in(limits, rule, name).bytes;
      const std::uint64_t share = served->facts().capacity.value / 100 * rule.share->value;
      if (!bytes) bytes = share / kPageSize * kPageSize;
    }
  }
  return limits;
}

Result<void> check_override(const schema::QuotaSet& ask, const ServedPools& pools) {
  if (ask.limits == Limits{}) {
    return failure(ErrorCode::invalid,
                   "a quota override sets at least one of bytes, regions, grants, connections");
  }
  if (ask.subject == SubjectKind::any && ask.id != 0) {
    return failure(ErrorCode::invalid, "a quota of any user has no id");
  }
  if (ask.limits.connections && (!ask.pool.empty() || ask.subject == SubjectKind::group)) {
    return failure(ErrorCode::invalid,
                   "connections are a user's, and belong to no pool and no group: such a limit would do "
                   "nothing");
  }
  const ServedPool* served = ask.pool.empty() ? nullptr : find_pool(pools, ask.pool);
  if (ask.limits.grants && served != nullptr && !served->confiner->tracks_grants()) {
    return failure(ErrorCode::invalid,
                   "grants of pool " + ask.pool + " cannot be counted: the kernel does not tell when a " +
                       std::string(to_string(served->confiner->kind())) + " descriptor is gone");
  }
  return ok();
}

}  // namespace mapcap::broker
