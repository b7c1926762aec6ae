#include "broker/books/quotas.h"

#include <algorithm>
#include <array>
#include <set>

namespace mapcap::broker {

using schema::QuotaInfo;

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

std::string slot_name(SubjectKind subject, std::uint32_t id, const std::string& pool) {
  std::string who = subject == SubjectKind::user    ? "user " + std::to_string(id)
                    : subject == SubjectKind::group ? "group " + std::to_string(id)
                                                    : std::string("any user");
  return who + (pool.empty() ? " over all pools" : " in pool " + pool);
}

std::string quantity(const char* what, std::uint64_t value) {
  return std::string_view(what) == "bytes" ? round_bytes({value}) : std::to_string(value);
}

Failure refusal(ErrorCode code, const std::string& slot, const char* what, std::uint64_t used,
                std::uint64_t limit, std::uint64_t asked) {
  return failure(code,
                 "the " + std::string(what) + " limit of " + slot +
                     " would be exceeded: " + quantity(what, used) + " used of " + quantity(what, limit) +
                     ", " + quantity(what, asked) + " asked; revoke regions or ask for less",
                 {{"slot", slot},
                  {"what", what},
                  {"used", std::to_string(used)},
                  {"limit", std::to_string(limit)},
                  {"asked", std::to_string(asked)}});
}

/// used + asked > limit, without overflow.
bool exceeds(std::uint64_t used, std::uint64_t asked, std::uint64_t limit) {
  return asked > limit || used > limit - asked;
}

}  // namespace

Charge::Charge(Charge&& other) noexcept
    : quotas_(std::exchange(other.quotas_, nullptr)),
      payer_(std::move(other.payer_)),
      amount_(other.amount_) {}

Charge& Charge::operator=(Charge&& other) noexcept {
  if (this != &other) {
    end();
    quotas_ = std::exchange(other.quotas_, nullptr);
    payer_ = std::move(other.payer_);
    amount_ = other.amount_;
  }
  return *this;
}

void Charge::end() {
  if (Quotas* quotas = std::exchange(quotas_, nullptr)) quotas->subtract(payer_, amount_);
}

Quotas::~Quotas() {
  MAPCAP_INVARIANT(usage_.empty(), "quota books do not balance: a charge never ended");
}

void Quotas::add_pool(const std::string& name, std::uint64_t capacity) {
  pools_[name].capacity = capacity;
}

void Quotas::set_policy(const std::vector<ledger::QuotaRecord>& limits) {
  policy_.clear();
  for (const ledger::QuotaRecord& limit : limits)
    policy_[{limit.subject, limit.id, limit.pool}] = limit.limits;
}

void Quotas::set_override(const ledger::QuotaRecord& limits) {
  overrides_[{limits.subject, limits.id, limits.pool}] = limits.limits;
}

bool Quotas::clear_override(SubjectKind subject, std::uint32_t id, const std::string& pool) {
  return overrides_.erase({subject, id, pool}) > 0;
}

Quotas::Limit Quotas::limit_of(const Key& key) const {
  auto look = [&](const Key& wanted) -> std::optional<Limit> {
    if (auto found = overrides_.find(wanted); found != overrides_.end()) return Limit{found->second, true};
    if (auto found = policy_.find(wanted); found != policy_.end()) return Limit{found->second, false};
    return std::nullopt;
  };
  if (auto own = look(key)) return *own;
  if (key.subject == SubjectKind::user) {
    if (auto common = look({SubjectKind::any, 0, key.pool})) return *common;
  }
  return {};
}

Result<void> Quotas::fits(const Key& key, const Amount& asked) const {
  const Limit limit = limit_of(key);
  auto found = usage_.find(key);
  const Amount used = found == usage_.end() ? Amount{} : found->second;
  for (const Dimension& dimension : kDimensions) {
    const std::optional<std::uint64_t>& bound = limit.limits.*dimension.limit;
    const std::uint64_t want = asked.*dimension.taken;
    if (want == 0 || !bound || !exceeds(used.*dimension.taken, want, *bound)) continue;
    return refusal(ErrorCode::over_quota, slot_name(key.subject, key.id, key.pool), dimension.name,
                   used.*dimension.taken, *bound, want);
  }
  return ok();
}

Result<Charge> Quotas::reserve(Payer payer, const Amount& amount) {
  payer.uid = account_of(payer.uid);
  for (const auto& [subject, id] :
       {std::pair{SubjectKind::user, payer.uid}, {SubjectKind::group, payer.gid}}) {
    if (!payer.pool.empty()) {
      MAPCAP_TRY_VOID(fits({subject, id, payer.pool}, amount));
    }
    MAPCAP_TRY_VOID(fits({subject, id, ""}, amount));
  }
  if (amount.bytes > 0) {
    auto pool = pools_.find(payer.pool);
    MAPCAP_INVARIANT(pool != pools_.end(), "bytes are charged in an unknown pool");
    if (exceeds(pool->second.used, amount.bytes, pool->second.capacity)) {
      return refusal(ErrorCode::pool_full, "pool " + payer.pool, "bytes", pool->second.used,
                     pool->second.capacity, amount.bytes);
    }
  }
  add(payer, amount);
  return Charge(*this, std::move(payer), amount);
}

Charge Quotas::restore(Payer payer, const Amount& amount) {
  payer.uid = account_of(payer.uid);
  add(payer, amount);
  return Charge(*this, std::move(payer), amount);
}

void Quotas::add(const Payer& payer, const Amount& amount) {
  auto count = [&](const Key& key) {
    Amount& used = usage_[key];
    for (const Dimension& dimension : kDimensions) used.*dimension.taken += amount.*dimension.taken;
  };
  count({SubjectKind::user, payer.uid, ""});
  count({SubjectKind::group, payer.gid, ""});
  if (payer.pool.empty()) return;
  count({SubjectKind::user, payer.uid, payer.pool});
  count({SubjectKind::group, payer.gid, payer.pool});
  PoolBook& pool = pools_[payer.pool];
  pool.used += amount.bytes;
  pool.regions += amount.regions;
}

void Quotas::subtract(const Payer& payer, const Amount& amount) {
  auto count = [&](const Key& key) {
    auto found = usage_.find(key);
    MAPCAP_INVARIANT(found != usage_.end(), "a charge ends twice");
    for (const Dimension& dimension : kDimensions) {
      MAPCAP_INVARIANT(found->second.*dimension.taken >= amount.*dimension.taken, "a charge ends twice");
      found->second.*dimension.taken -= amount.*dimension.taken;
    }
    if (is_zero(found->second)) usage_.erase(found);
  };
  if (is_zero(amount)) return;
  count({SubjectKind::user, payer.uid, ""});
  count({SubjectKind::group, payer.gid, ""});
  if (payer.pool.empty()) return;
  count({SubjectKind::user, payer.uid, payer.pool});
  count({SubjectKind::group, payer.gid, payer.pool});
  PoolBook& pool = pools_[payer.pool];
  pool.used -= amount.bytes;
  pool.regions -= amount.regions;
}

QuotaInfo Quotas::describe(const Key& key, const Amount& used) const {
  const Limit limit = limit_of(key);
  QuotaInfo info;
  info.subject = key.subject;
  info.id = key.id;
  info.pool = key.pool;
  info.limits = limit.limits;
  info.overridden = limit.overridden;
  info.bytes = used.bytes;
  info.regions = used.regions;
  info.grants = used.grants;
  info.connections = used.connections;
  return info;
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
  for (std::uint32_t gid : groups) add_slots(SubjectKind::group, gid);
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
