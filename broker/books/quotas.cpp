// Who has taken what: entered, moved and given back. What is allowed: quota_check.cpp.
#include "broker/books/quotas.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

#include "broker/books/dimensions.h"

namespace mapcap::broker {

namespace {

bool is_zero(const Amount& amount) {
  return std::all_of(kDimensions.begin(), kDimensions.end(),
                     [&](const Dimension& dimension) { return amount.*dimension.taken == 0; });
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

std::string Quotas::whom(std::uint32_t principal) const {
  const std::string endpoint = endpoint_named(principal);
  return endpoint.empty() ? "user " + std::to_string(principal) : "endpoint " + endpoint;
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
