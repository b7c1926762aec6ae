#include "broker/books/quotas.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

namespace mapcap::broker {

namespace {

struct Dimension {
  const char* name;
  std::uint64_t Amount::*taken;
  std::optional<std::uint64_t> Limits::*limit;
};

constexpr std::array<Dimension, 4> kDimensions{{
    {"bytes", &Amount::bytes, &Limits::bytes},
    {"regions", &Amount::regions, &Limits::regions},
    {"grants", &Amount::grants, &Limits::grants},
    {"connections", &Amount::connections, &Limits::connections},
}};

bool is_zero(const Amount& amount) {
  return std::all_of(kDimensions.begin(), kDimensions.end(),
                     [&](const Dimension& dimension) { return amount.*dimension.taken == 0; });
}

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

Charge::Charge(Charge&& other) noexcept
    : quotas_(std::exchange(other.quotas_, nullptr)), taken_(other.taken_) {}

Charge& Charge::operator=(Charge&& other) noexcept {
  if (this != &other) {
    end();
    quotas_ = std::exchange(other.quotas_, nullptr);
    taken_ = other.taken_;
  }
  return *this;
}

Payer Charge::taken_by() const {
  Payer payer = taken_->payer;
  payer.uid = taken_->uid;
  return payer;
}

void Charge::end() {
  if (Quotas* quotas = std::exchange(quotas_, nullptr)) quotas->leave(taken_);
}

Quotas::~Quotas() {
  MAPCAP_INVARIANT(usage_.empty() && taken_.empty(), "quota books do not balance: a charge never ended");
}

void Quotas::add_pool(const std::string& name, std::uint64_t capacity) {
  pools_[name].capacity = capacity;
}

std::uint64_t Quotas::set_subordinates(policy::Subordinates subordinates) {
  subordinates_ = std::move(subordinates);
  std::uint64_t moved = 0;
  for (Taken& taken : taken_) {
    const std::uint32_t account = account_of(taken.uid);
    const std::uint32_t makers = taken.maker ? account_of(taken.maker->uid) : 0;
    if (account == taken.payer.uid && (!taken.maker || makers == taken.maker->account)) continue;
    if (!is_zero(taken.amount)) {
      uncount_user(taken);
      uncount_groups(taken);
    }
    taken.payer.uid = account;
    if (taken.maker) taken.maker->account = makers;
    taken.lender = lender_of(taken.maker ? taken.maker->uid : taken.uid);
    if (!is_zero(taken.amount)) {
      count_user(taken);
      count_groups(taken);
    }
    ++moved;
  }
  return moved;
}

void Quotas::remove_pool(const std::string& name) {
  const auto found = pools_.find(name);
  MAPCAP_INVARIANT(found != pools_.end() && found->second.used == 0 && found->second.regions == 0,
                   "a pool is removed while somebody has something of it");
  pools_.erase(found);
}

void Quotas::set_policy(const std::vector<ledger::QuotaRecord>& limits,
                        const std::vector<std::string>& rules) {
  policy_.clear();
  rules_.clear();
  for (std::size_t i = 0; i < limits.size(); ++i) {
    const Key key{limits[i].subject, limits[i].id, limits[i].pool};
    policy_[key] = limits[i].limits;
    if (i < rules.size()) rules_[key] = rules[i];
  }
  recount_groups();
}

void Quotas::set_memberships(Memberships of) {
  memberships_ = std::move(of);
  known_memberships_.clear();
}

void Quotas::set_override(const ledger::QuotaRecord& limits) {
  Limits& set = overrides_[{limits.subject, limits.id, limits.pool}];
  set = limits.limits;
  recount_groups();
}

Limits Quotas::override_of(SubjectKind subject, std::uint32_t id, const std::string& pool) const {
  const auto found = overrides_.find({subject, id, pool});
  return found == overrides_.end() ? Limits{} : found->second;
}

bool Quotas::clear_override(SubjectKind subject, std::uint32_t id, const std::string& pool) {
  const bool had = overrides_.erase({subject, id, pool}) > 0;
  recount_groups();
  return had;
}

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

void Quotas::know_endpoint(std::uint32_t principal, EndpointAccount account) {
  endpoints_.insert_or_assign(principal, std::move(account));
}

const EndpointAccount* Quotas::endpoint(std::uint32_t principal) const {
  const auto found = endpoints_.find(principal);
  return found == endpoints_.end() ? nullptr : &found->second;
}

std::string Quotas::endpoint_named(std::uint32_t principal) const {
  const EndpointAccount* known = endpoint(principal);
  return known == nullptr ? std::string() : known->id;
}

Amount Quotas::used_by(std::uint32_t uid) const {
  const auto found = usage_.find(Key{SubjectKind::user, uid, ""});
  return found == usage_.end() ? Amount{} : found->second;
}

Taken Quotas::entry_for(Payer payer, const Amount& amount) const {
  const std::uint32_t uid = payer.uid;
  Taken entry{std::move(payer), amount, uid};
  if (const EndpointAccount* own = endpoint(uid)) {
    entry.payer.groups = own->groups;
    entry.maker = Taken::Maker{own->maker, account_of(own->maker)};
  } else {
    entry.payer.uid = account_of(uid);
  }
  entry.lender = lender_of(entry.maker ? entry.maker->uid : uid);
  return entry;
}

std::vector<std::uint32_t> Quotas::users_of(const Taken& taken) {
  std::vector<std::uint32_t> users{taken.payer.uid};
  if (taken.maker) users.push_back(taken.maker->account);
  return users;
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

std::vector<std::uint32_t> Quotas::counted_groups(const Taken& taken) const {
  std::vector<std::uint32_t> both;
  if (limited_groups_.empty()) return both;
  const auto in = [](const std::vector<std::uint32_t>& groups, std::uint32_t gid) {
    return std::binary_search(groups.begin(), groups.end(), gid);
  };
  // One may have 65,536 groups, but few have a limit.
  for (const std::uint32_t gid : limited_groups_) {
    if (in(*taken.payer.groups, gid) || (taken.lender && in(taken.lender->groups, gid))) both.push_back(gid);
  }
  return both;
}

Result<Charge> Quotas::reserve(Payer payer, const Amount& amount) {
  MAPCAP_TRY_VOID(check(payer, amount));
  return enter(entry_for(std::move(payer), amount));
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

Charge Quotas::take(Payer payer, const Amount& amount) {
  return enter(entry_for(std::move(payer), amount));
}

Charge Quotas::restore(Payer payer, const Amount& amount) {
  if (memberships_ && endpoint(payer.uid) == nullptr) {
    const auto [known, first] = known_memberships_.try_emplace(payer.uid);
    if (first) known->second = memberships_(payer.uid);
    std::vector<std::uint32_t> groups = *payer.groups;
    groups.insert(groups.end(), known->second.begin(), known->second.end());
    std::sort(groups.begin(), groups.end());
    groups.erase(std::unique(groups.begin(), groups.end()), groups.end());
    payer.groups = std::make_shared<const std::vector<std::uint32_t>>(std::move(groups));
  }
  return take(std::move(payer), amount);
}

Charge Quotas::enter(Taken entry) {
  const auto taken = taken_.insert(taken_.end(), std::move(entry));
  const Amount& amount = taken->amount;
  if (!is_zero(amount)) {
    count_user(*taken);
    if (!taken->payer.pool.empty()) {
      PoolBook& pool = pools_[taken->payer.pool];
      pool.used += amount.bytes;
      pool.regions += amount.regions;
    }
    count_groups(*taken);
  }
  return Charge(*this, taken);
}

void Quotas::leave(std::list<Taken>::iterator taken) {
  const Amount& amount = taken->amount;
  if (!is_zero(amount)) {
    uncount_user(*taken);
    const std::string& in = taken->payer.pool;
    if (!in.empty()) {
      PoolBook& pool = pools_[in];
      pool.used -= amount.bytes;
      pool.regions -= amount.regions;
    }
    uncount_groups(*taken);
  }
  taken_.erase(taken);
}

void Quotas::count_user(const Taken& taken) {
  const std::string& in = taken.payer.pool;
  for (const std::uint32_t uid : users_of(taken)) {
    count({SubjectKind::user, uid, ""}, taken.amount);
    if (!in.empty()) count({SubjectKind::user, uid, in}, taken.amount);
  }
}

void Quotas::uncount_user(const Taken& taken) {
  const std::string& in = taken.payer.pool;
  for (const std::uint32_t uid : users_of(taken)) {
    uncount({SubjectKind::user, uid, ""}, taken.amount);
    if (!in.empty()) uncount({SubjectKind::user, uid, in}, taken.amount);
  }
}

void Quotas::count(const Key& key, const Amount& amount) {
  Amount& used = usage_[key];
  for (const Dimension& dimension : kDimensions) used.*dimension.taken += amount.*dimension.taken;
}

void Quotas::count_groups(const Taken& taken) {
  for (const std::uint32_t gid : counted_groups(taken)) {
    count({SubjectKind::group, gid, ""}, taken.amount);
    if (!taken.payer.pool.empty()) count({SubjectKind::group, gid, taken.payer.pool}, taken.amount);
  }
}

void Quotas::uncount_groups(const Taken& taken) {
  for (const std::uint32_t gid : counted_groups(taken)) {
    uncount({SubjectKind::group, gid, ""}, taken.amount);
    if (!taken.payer.pool.empty()) uncount({SubjectKind::group, gid, taken.payer.pool}, taken.amount);
  }
}

void Quotas::uncount(const Key& key, const Amount& amount) {
  auto found = usage_.find(key);
  MAPCAP_INVARIANT(found != usage_.end(), "a charge ends twice");
  for (const Dimension& dimension : kDimensions) {
    MAPCAP_INVARIANT(found->second.*dimension.taken >= amount.*dimension.taken, "a charge ends twice");
    found->second.*dimension.taken -= amount.*dimension.taken;
  }
  if (is_zero(found->second)) usage_.erase(found);
}

void Quotas::recount_groups() {
  std::set<std::uint32_t> limited;
  for (const auto* limits : {&policy_, &overrides_}) {
    for (const auto& [key, limit] : *limits) {
      if (key.subject == SubjectKind::group) limited.insert(key.id);
    }
  }
  if (limited == limited_groups_) return;
  limited_groups_ = std::move(limited);
  std::erase_if(usage_, [](const auto& entry) { return entry.first.subject == SubjectKind::group; });
  for (const Taken& taken : taken_) {
    if (!is_zero(taken.amount)) count_groups(taken);
  }
}

}  // namespace mapcap::broker
