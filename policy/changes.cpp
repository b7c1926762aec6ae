#include "policy/changes.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "policy/match.h"

namespace mapcap::policy {

namespace {

void add(std::string& words, const std::string& word) {
  words += (words.empty() ? "" : "; ") + word;
}

std::string conditions_of(const Rule& rule) {
  std::string words;
  const auto say = [&](bool listed, Part part) {
    if (listed) add(words, what_it_says(rule, part));
  };
  say(!rule.names.empty(), Part::name);
  say(!rule.pools.empty(), Part::pool);
  say(rule.verbs.any(), Part::verb);
  say(rule.rights.has_value(), Part::rights);
  say(rule.cache.any(), Part::cache);
  say(rule.lifetimes.any(), Part::lifetime);
  say(rule.max_ttl.has_value(), Part::ttl);
  say(rule.max_size.has_value(), Part::size);
  say(rule.seals.any(), Part::seal);
  say(rule.published_only, Part::published);
  return words.empty() ? "everything" : words;
}

void compare_rules(const Policy& before, const Policy& after, std::vector<PolicyChange>& changes) {
  // As many as there are of each: a rule that stood there twice and stands there once has not gone.
  std::map<std::string, std::ptrdiff_t> balance;
  for (const Rule& rule : before.rules()) ++balance[in_words(rule)];
  for (const Rule& rule : after.rules()) --balance[in_words(rule)];
  const auto tell = [&](const Rule& rule, const std::string& what, std::ptrdiff_t sign) {
    std::ptrdiff_t& left = balance[in_words(rule)];
    if (left * sign <= 0) return;
    left -= sign;
    changes.push_back({what, rule.subject.text, rule.where,
                       (rule.effect == Effect::deny ? "deny " : "allow ") + conditions_of(rule)});
  };
  for (const Rule& rule : before.rules()) tell(rule, "rule removed", 1);
  for (const Rule& rule : after.rules()) tell(rule, "rule added", -1);
}

std::string whom(const QuotaRule& quota) {
  std::string who = "any user";
  if (quota.subject == SubjectKind::user) who = "uid " + std::to_string(quota.id);
  if (quota.subject == SubjectKind::group)
    who = "group " + (quota.name.empty() ? std::to_string(quota.id) : quota.name);
  return who + (quota.pool.empty() ? "" : " in pool " + quota.pool);
}

void compare_quotas(const Policy& before, const Policy& after, std::vector<PolicyChange>& changes) {
  using Slot = std::tuple<SubjectKind, std::uint32_t, std::string>;
  const auto slot = [](const QuotaRule& quota) { return Slot{quota.subject, quota.id, quota.pool}; };
  std::map<Slot, const QuotaRule*> old;
  for (const QuotaRule& quota : before.quotas()) old.emplace(slot(quota), &quota);
  for (const QuotaRule& quota : after.quotas()) {
    const auto found = old.find(slot(quota));
    if (found == old.end()) {
      changes.push_back({"quota added", whom(quota), quota.where, in_words(quota)});
      continue;
    }
    const std::string was = in_words(*found->second);
    if (was != in_words(quota))
      changes.push_back({"quota changed", whom(quota), quota.where, in_words(quota) + " (was " + was + ")"});
    old.erase(found);
  }
  for (const QuotaRule& quota : before.quotas()) {
    if (old.erase(slot(quota)) > 0)
      changes.push_back({"quota removed", whom(quota), quota.where, in_words(quota)});
  }
}

std::string seals_of(const PoolSettings& pool) {
  std::string words;
  for (const SealKind seal : pool.seals) words += (words.empty() ? "" : ", ") + std::string(to_string(seal));
  return words;
}

void compare_pools(const Policy& before, const Policy& after, std::vector<PolicyChange>& changes) {
  for (const PoolSettings& pool : after.pools()) {
    const std::string who = "pool " + pool.name;
    const PoolSettings* old = pool_named(before, pool.name);
    if (old == nullptr) {
      changes.push_back({"pool added", who, pool.where,
                         std::string(to_string(pool.backing)) + ", capacity " + in_words(pool.capacity)});
      continue;
    }
    const auto changed = [&](const std::string& key, const std::string& was, const std::string& is) {
      if (was != is)
        changes.push_back({"pool changed", who, pool.where, key + " = " + is + " (was " + was + ")"});
    };
    changed("capacity", in_words(old->capacity), in_words(pool.capacity));
    changed("seals", seals_of(*old), seals_of(pool));
    changed("pin_deadline", format_duration_exact(old->pin_deadline),
            format_duration_exact(pool.pin_deadline));
  }
  for (const PoolSettings& pool : before.pools()) {
    if (pool_named(after, pool.name) == nullptr)
      changes.push_back({"pool removed", "pool " + pool.name, pool.where, ""});
  }
}

void compare_settings(const BrokerSettings& before, const BrokerSettings& after,
                      std::vector<PolicyChange>& changes) {
  const auto changed = [&](const std::string& key, const std::string& was, const std::string& is) {
    if (was != is)
      changes.push_back({"setting changed", "[broker]", "", key + " = " + is + " (was " + was + ")"});
  };
  const auto times = [&](const char* key, std::chrono::nanoseconds was, std::chrono::nanoseconds is) {
    changed(key, format_duration_exact(was), format_duration_exact(is));
  };
  times("grace", before.grace, after.grace);
  times("expiring_notice", before.expiring_notice, after.expiring_notice);
  times("keeper_deadline", before.keeper_deadline, after.keeper_deadline);
  changed("max_connections", std::to_string(before.max_connections), std::to_string(after.max_connections));
  changed("max_connections_per_user", std::to_string(before.max_connections_per_user),
          std::to_string(after.max_connections_per_user));
}

}  // namespace

const PoolSettings* pool_named(const Policy& policy, const std::string& name) {
  for (const PoolSettings& pool : policy.pools()) {
    if (pool.name == name) return &pool;
  }
  return nullptr;
}

std::string in_words(const Rule& rule) {
  std::string ids;
  for (const std::uint32_t uid : rule.subject.uids) ids += " u" + std::to_string(uid);
  for (const std::uint32_t gid : rule.subject.gids) ids += " g" + std::to_string(gid);
  return (rule.effect == Effect::deny ? "deny " : "allow ") + rule.subject.text + ids + ": " +
         conditions_of(rule);
}

std::string in_words(const QuotaRule& quota) {
  std::string words;
  const Limits& limits = quota.limits;
  if (quota.share) add(words, "bytes = " + std::to_string(quota.share->value) + "%");
  if (limits.bytes) add(words, "bytes = " + format_bytes({*limits.bytes}));
  if (limits.regions) add(words, "regions = " + std::to_string(*limits.regions));
  if (limits.grants) add(words, "grants = " + std::to_string(*limits.grants));
  if (limits.connections) add(words, "connections = " + std::to_string(*limits.connections));
  return words;
}

std::string in_words(const std::optional<Capacity>& capacity) {
  if (!capacity) return "all";
  if (const auto* percent = std::get_if<Percent>(&*capacity)) return std::to_string(percent->value) + "%";
  return format_bytes(std::get<ByteCount>(*capacity));
}

std::vector<PolicyChange> changes_between(const Policy& before, const Policy& after) {
  std::vector<PolicyChange> changes;
  compare_rules(before, after, changes);
  compare_quotas(before, after, changes);
  compare_pools(before, after, changes);
  compare_settings(before.broker(), after.broker(), changes);
  return changes;
}

}  // namespace mapcap::policy
