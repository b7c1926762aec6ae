#include "broker/books/quota_limits.h"

#include <algorithm>
#include <map>
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

std::uint64_t share_of(const ServedPool& served, policy::Percent share) {
  const std::uint64_t whole = served.facts().capacity.value;
  // In this order: what a rounded hundredth leaves out would be a page of a pool of 8G, and times the capacity may
  // overflow.
  return (whole / 100 * share.value + whole % 100 * share.value / 100) / kPageSize * kPageSize;
}

/// Each the smaller of both.
Limits tightened(Limits limits, const Limits& by) {
  const auto tighten = [](std::optional<std::uint64_t>& limit, const std::optional<std::uint64_t>& other) {
    if (other && (!limit || *other < *limit)) limit = other;
  };
  tighten(limits.bytes, by.bytes);
  tighten(limits.regions, by.regions);
  tighten(limits.grants, by.grants);
  tighten(limits.connections, by.connections);
  return limits;
}

}  // namespace

std::vector<std::pair<std::string, Limits>> limits_of(const policy::Policy& policy, const ServedPools& pools,
                                                      const policy::Endpoint& endpoint, const Limits& own) {
  std::map<std::string, Limits> limits{{"", own}};
  for (const policy::QuotaRule& rule : policy.quotas()) {
    if (!rule.endpoints || !policy::means(*rule.endpoints, endpoint)) continue;
    limits[rule.pool] = tightened(limits[rule.pool], rule.limits);
    if (!rule.share) continue;
    for (const auto& served : pools) {
      const std::string& name = served->facts().name;
      if (!rule.pool.empty() && rule.pool != name) continue;
      Limits share;
      share.bytes = share_of(*served, *rule.share);
      limits[name] = tightened(limits[name], share);
    }
  }
  return {limits.begin(), limits.end()};
}

PolicyLimits limits_of(const policy::Policy& policy, const ServedPools& pools) {
  PolicyLimits limits;
  for (const policy::QuotaRule& rule : policy.quotas()) {
    if (!rule.endpoints && rule.limits != Limits{}) slot_in(limits, rule, rule.pool) = rule.limits;
  }
  for (const policy::QuotaRule& rule : policy.quotas()) {
    if (!rule.share || rule.endpoints) continue;
    for (const auto& served : pools) {
      const std::string& name = served->facts().name;
      if (!rule.pool.empty() && rule.pool != name) continue;
      std::optional<std::uint64_t>& bytes = slot_in(limits, rule, name).bytes;
      if (!bytes) bytes = share_of(*served, *rule.share);
    }
  }
  return limits;
}

Result<void> check_override(const schema::QuotaSet& ask, const ServedPools& pools) {
  if (ask.limits == Limits{}) {
    return failure(ErrorCode::invalid,
                   "a quota override sets at least one of bytes, regions, grants, connections");
  }
  if (ask.slot.subject == SubjectKind::any && ask.slot.id != 0) {
    return failure(ErrorCode::invalid, "a quota of any user has no id");
  }
  if (ask.slot.subject == SubjectKind::user && policy::is_principal(ask.slot.id)) {
    return failure(ErrorCode::invalid,
                   "an endpoint's limits are those that it was made with, and the policy's: end it and make "
                   "it anew, or limit its maker");
  }
  if (ask.limits.connections && (!ask.slot.pool.empty() || ask.slot.subject == SubjectKind::group)) {
    return failure(ErrorCode::invalid,
                   "connections are a user's, and belong to no pool and no group: such a limit would do "
                   "nothing");
  }
  const ServedPool* served = ask.slot.pool.empty() ? nullptr : find_pool(pools, ask.slot.pool);
  if (ask.limits.grants && served != nullptr && !served->confiner->tracks_grants()) {
    return failure(ErrorCode::invalid, "grants of pool " + ask.slot.pool +
                                           " cannot be counted: the kernel does not tell when a " +
                                           std::string(to_string(served->confiner->kind())) +
                                           " descriptor is gone");
  }
  return ok();
}

}  // namespace mapcap::broker
