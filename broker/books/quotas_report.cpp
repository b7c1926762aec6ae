// What the books tell of who has taken what.
#include <algorithm>
#include <set>
#include <string>

#include "broker/books/quotas.h"

namespace mapcap::broker {

QuotaInfo Quotas::describe(const Key& key, const Amount& used) const {
  const Limit limit = limit_of(key);
  QuotaInfo info;
  info.slot = {key.subject, key.id, key.pool};
  info.limits = limit.limits;
  info.overridden = limit.overridden;
  if (key.subject == SubjectKind::user) info.endpoint = endpoint_named(key.id);
  info.bytes = used.bytes;
  info.regions = used.regions;
  info.grants = used.grants;
  info.connections = used.connections;
  return info;
}

/// Of the sorted `groups`, those that have something to tell, by the shorter way: a user may be in 65,536.
std::vector<std::uint32_t> Quotas::groups_with_slots(const std::vector<std::uint32_t>& groups) const {
  if (groups.size() <= usage_.size() + policy_.size() + overrides_.size()) return groups;
  std::set<std::uint32_t> found;
  const auto look = [&](const auto& slots) {
    for (const auto& [key, ignored] : slots) {
      const bool own =
          key.subject == SubjectKind::group && std::binary_search(groups.begin(), groups.end(), key.id);
      if (own) found.insert(key.id);
    }
  };
  look(usage_);
  look(policy_);
  look(overrides_);
  return {found.begin(), found.end()};
}

std::vector<QuotaInfo> Quotas::report_for(std::uint32_t uid, const std::vector<std::uint32_t>& groups) const {
  std::vector<QuotaInfo> report;
  auto add_slots = [&](SubjectKind subject, std::uint32_t id) {
    std::vector<std::string> pools{""};
    for (const auto& [name, book] : pools_) pools.push_back(name);
    for (const std::string& pool : pools) {
      const Key key{subject, id, pool};
      auto found = usage_.find(key);
      const Amount used = found == usage_.end() ? Amount{} : found->second;
      if (found != usage_.end() || limit_of(key).limits != Limits{}) report.push_back(describe(key, used));
    }
  };
  add_slots(SubjectKind::user, account_of(uid));
  std::vector<std::uint32_t> bound = groups_with_slots(groups);
  if (const auto lender = lender_of(uid)) {
    const std::vector<std::uint32_t> lenders = groups_with_slots(lender->groups);
    bound.insert(bound.end(), lenders.begin(), lenders.end());
    std::sort(bound.begin(), bound.end());
    bound.erase(std::unique(bound.begin(), bound.end()), bound.end());
  }
  for (const std::uint32_t gid : bound) add_slots(SubjectKind::group, gid);
  return report;
}

std::vector<QuotaInfo> Quotas::report_all() const {
  std::set<Key> keys;
  for (const auto& [key, used] : usage_) keys.insert(key);
  for (const auto& [key, limits] : policy_) keys.insert(key);
  for (const auto& [key, limits] : overrides_) keys.insert(key);
  std::vector<QuotaInfo> report;
  for (const Key& key : keys) {
    auto found = usage_.find(key);
    report.push_back(describe(key, found == usage_.end() ? Amount{} : found->second));
  }
  return report;
}

std::uint64_t Quotas::pool_used(const std::string& pool) const {
  auto found = pools_.find(pool);
  return found == pools_.end() ? 0 : found->second.used;
}

std::uint64_t Quotas::pool_regions(const std::string& pool) const {
  auto found = pools_.find(pool);
  return found == pools_.end() ? 0 : found->second.regions;
}

}  // namespace mapcap::broker
