// Where a limit is refused: which one holds for whom, whether what is asked for fits, and what is said when it does not.
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "broker/books/dimensions.h"
#include "broker/books/quotas.h"

namespace mapcap::broker {

namespace {

std::string quantity(const char* what, std::uint64_t value) {
  return std::string_view(what) == "bytes" ? round_bytes({value}) : std::to_string(value);
}

/// What whoever is refused can do about it.
const char* advice(std::string_view what) {
  if (what == "connections") return "close some";
  if (what == "grants") return "let go of some: close and unmap them";
  return "revoke regions or ask for less";
}

Failure refusal(ErrorCode code, const std::string& slot, const char* what, std::uint64_t used,
                std::uint64_t limit, std::uint64_t asked) {
  return failure(code,
                 "the " + std::string(what) + " limit of " + slot +
                     " would be exceeded: " + quantity(what, used) + " used of " + quantity(what, limit) +
                     ", " + quantity(what, asked) + " asked; " + advice(what),
                 {{"slot", slot},
                  {"what", what},
                  {"used", std::to_string(used)},
                  {"limit", std::to_string(limit)},
                  {"asked", std::to_string(asked)}});
}

/// What `over` sets replaces what `base` says.
Limits merged(Limits base, const Limits& over) {
  for (const Dimension& dimension : kDimensions) {
    const std::optional<std::uint64_t>& set = over.*dimension.limit;
    if (set) base.*dimension.limit = *set == kUnlimited ? std::nullopt : set;
  }
  return base;
}

/// used + asked > limit, without overflow.
bool exceeds(std::uint64_t used, std::uint64_t asked, std::uint64_t limit) {
  return asked > limit || used > limit - asked;
}

}  // namespace

Quotas::Limit Quotas::limit_of(const Key& key) const {
  const auto in_policy = [&](const Key& wanted) {
    const auto found = policy_.find(wanted);
    return found == policy_.end() ? nullptr : &found->second;
  };
  const auto over = [&](Limit limit, const Key& wanted) {
    const auto found = overrides_.find(wanted);
    if (found == overrides_.end()) return limit;
    return Limit{merged(limit.limits, found->second), true};
  };
  Limit limit;
  if (const Limits* own = in_policy(key)) {
    limit.limits = *own;
  } else if (key.subject == SubjectKind::user) {
    const Key common{SubjectKind::any, 0, key.pool};
    if (const Limits* any = in_policy(common)) limit.limits = *any;
    limit = over(limit, common);
  }
  if (const EndpointAccount* own = endpoint(key.id); own != nullptr && key.subject == SubjectKind::user) {
    for (const auto& [pool, limits] : own->limits) {
      if (pool == key.pool) limit.limits = merged(limit.limits, limits);
    }
  }
  return over(limit, key);
}

std::string Quotas::rule_of(const Key& key, std::optional<std::uint64_t> Limits::*limit) const {
  if (const EndpointAccount* own = endpoint(key.id); own != nullptr && key.subject == SubjectKind::user) {
    for (const auto& [pool, limits] : own->limits) {
      if (pool == key.pool && limits.*limit) return "endpoint " + own->id;
    }
  }
  const Key common{SubjectKind::any, 0, key.pool};
  const bool own = key.subject != SubjectKind::user || policy_.contains(key);
  for (const Key& slot : {key, common}) {
    const auto over = overrides_.find(slot);
    if (over != overrides_.end() && over->second.*limit) return "quota set";
    if (own) break;
  }
  const auto found = rules_.find(own ? key : common);
  return found == rules_.end() ? "" : found->second;
}

std::string Quotas::called(const Key& key, const Taken& taken) const {
  const Payer& payer = taken.payer;
  const EndpointAccount* own = endpoint(payer.uid);
  std::string who = "any user";
  if (key.subject == SubjectKind::group) {
    const auto name = group_names_.find(key.id);
    who = "group " + (name == group_names_.end() ? std::to_string(key.id) : name->second);
  } else if (own != nullptr && key.id == payer.uid) {
    who = "endpoint " + own->id;
  } else if (own != nullptr && key.subject == SubjectKind::user) {
    who = "user " + (own->maker_name.empty() ? std::to_string(key.id) : own->maker_name) +
          ", who made endpoint " + own->id + ",";
  } else if (key.subject == SubjectKind::user) {
    who = "user " + (payer.name.empty() ? std::to_string(key.id) : payer.name);
  }
  return who + (key.pool.empty() ? " over all pools" : " in pool " + key.pool);
}

Result<void> Quotas::fits(const Key& key, const Amount& asked, const Taken& taken) const {
  const Limit limit = limit_of(key);
  auto found = usage_.find(key);
  const Amount used = found == usage_.end() ? Amount{} : found->second;
  for (const Dimension& dimension : kDimensions) {
    std::optional<std::uint64_t> bound = limit.limits.*dimension.limit;
    const bool makers = key.subject == SubjectKind::user && taken.maker && key.id == taken.maker->account;
    if (makers && bound && dimension.taken == &Amount::connections) bound = for_endpoints(*bound);
    const std::uint64_t want = asked.*dimension.taken;
    if (want == 0 || !bound || !exceeds(used.*dimension.taken, want, *bound)) continue;
    Failure refused = refusal(ErrorCode::over_quota, called(key, taken), dimension.name,
                              used.*dimension.taken, *bound, want);
    const std::string rule = rule_of(key, dimension.limit);
    if (!rule.empty()) refused.details.push_back({"rule", rule});
    return refused;
  }
  return ok();
}

Result<void> Quotas::check(Payer payer, const Amount& amount) const {
  Taken entry = entry_for(std::move(payer), amount);
  if (entry.payer.uid != entry.uid) {
    const bool lent = lender_of(entry.uid) != nullptr && lender_of(entry.uid)->uid == entry.payer.uid;
    entry.payer.name = std::to_string(entry.payer.uid) +
                       (lent ? ", to whom /etc/subuid lends uid " + std::to_string(entry.uid) + ","
                             : ", who stands for the container of uid " + std::to_string(entry.uid) + ",");
  }
  const std::string& in = entry.payer.pool;
  const auto fits_both = [&](SubjectKind subject, std::uint32_t id) -> Result<void> {
    if (!in.empty()) {
      MAPCAP_TRY_VOID(fits({subject, id, in}, amount, entry));
    }
    return fits({subject, id, ""}, amount, entry);
  };
  for (const std::uint32_t uid : users_of(entry)) {
    MAPCAP_TRY_VOID(fits_both(SubjectKind::user, uid));
  }
  for (const std::uint32_t gid : counted_groups(entry)) {
    MAPCAP_TRY_VOID(fits_both(SubjectKind::group, gid));
  }
  if (amount.bytes > 0) {
    auto pool = pools_.find(in);
    MAPCAP_INVARIANT(pool != pools_.end(), "bytes are charged in an unknown pool");
    if (exceeds(pool->second.used, amount.bytes, pool->second.capacity)) {
      return refusal(ErrorCode::pool_full, "pool " + in, "bytes", pool->second.used, pool->second.capacity,
                     amount.bytes);
    }
  }
  return ok();
}

}  // namespace mapcap::broker
