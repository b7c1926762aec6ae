// Quotas and pool capacities: who has taken what, and what may still be taken.
//
// Usage is counted for every user and every group, in each pool and over all pools, whether or not a limit
// exists, so that a new policy or an override counts from the first moment. It is derived from the region
// records when the broker starts and moves only with Charges, so it cannot disagree with them.
//
// Which limit wins. A reservation by user u with group g in pool p must fit every one of these slots:
//
//     (user u, p)  (user u, all pools)  (group g, p)  (group g, all pools)  (pool p's capacity)
//
// The limit of a user slot is the administrator's override for that user, else the policy's for that user,
// else the override for `any`, else the policy's for `any` -- which is therefore a default for each single
// user, not a sum. A group slot has its override, else the policy's. The first slot in the order above that
// does not fit is the one the refusal names. A limit that is lowered below what is used takes nothing away:
// reservations are refused until usage has fallen. A charge stays with the user, group and pool that it was
// made for. The user of a subordinate uid (/etc/subuid) is the user whom the uid was lent to.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "broker/ledger/table/record.h"
#include "policy/subordinates.h"

namespace mapcap::broker {

struct Payer {
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::string pool;  ///< Empty for what belongs to no pool (connections, clones of files).
};

struct Amount {
  std::uint64_t bytes = 0;
  std::uint64_t regions = 0;
  std::uint64_t grants = 0;
  std::uint64_t connections = 0;
};

class Quotas;

/// What somebody has taken. Knows its own amount and payer, so giving back needs no arguments. Move-only.
class [[nodiscard]] Charge {
 public:
  Charge() = default;
  Charge(Charge&& other) noexcept;
  Charge& operator=(Charge&& other) noexcept;
  ~Charge() { end(); }
  /// Ends the charge now.
  void end();
  [[nodiscard]] const Amount& amount() const { return amount_; }
  /// The uid that it was made for.
  [[nodiscard]] std::uint32_t payer() const { return payer_.uid; }

 private:
  friend class Quotas;
  Charge(Quotas& quotas, Payer payer, Amount amount)
      : quotas_(&quotas), payer_(std::move(payer)), amount_(amount) {}
  Quotas* quotas_ = nullptr;
  Payer payer_;
  Amount amount_;
};

class Quotas {
 public:
  Quotas() = default;
  Quotas(const Quotas&) = delete;
  Quotas& operator=(const Quotas&) = delete;
  /// The books must balance: every charge has ended.
  ~Quotas();

  /// A pool and its capacity in bytes. Only pools named here can be charged.
  void add_pool(const std::string& name, std::uint64_t capacity);
  /// Counts from now on: a charge stays with the user that it was made for.
  void set_subordinates(policy::Subordinates subordinates) { subordinates_ = std::move(subordinates); }
  /// The user that `uid` is charged to.
  [[nodiscard]] std::uint32_t account_of(std::uint32_t uid) const { return subordinates_.account_of(uid); }
  /// Replaces all limits that come from the policy.
  void set_policy(const std::vector<ledger::QuotaRecord>& limits);
  void set_override(const ledger::QuotaRecord& limits);
  /// False when there was none.
  bool clear_override(SubjectKind subject, std::uint32_t id, const std::string& pool);

  /// Takes `amount` for `payer`, or refuses: `over_quota` or `pool_full`, with details slot, what, used,
  /// limit, asked.
  Result<Charge> reserve(Payer payer, const Amount& amount);
  /// Takes what a record says was taken before a restart: never refused.
  Charge restore(Payer payer, const Amount& amount);

  /// The slots of one user and the given groups: those with a limit or with usage.
  [[nodiscard]] std::vector<schema::QuotaInfo> report_for(std::uint32_t uid,
                                                          const std::vector<std::uint32_t>& groups) const;
  /// Every slot with a limit or with usage.
  [[nodiscard]] std::vector<schema::QuotaInfo> report_all() const;

  [[nodiscard]] std::uint64_t pool_used(const std::string& pool) const;
  [[nodiscard]] std::uint64_t pool_regions(const std::string& pool) const;

 private:
  friend class Charge;
  struct Key {
    SubjectKind subject = SubjectKind::any;
    std::uint32_t id = 0;
    std::string pool;
    auto operator<=>(const Key&) const = default;
  };
  struct Limit {
    Limits limits;
    bool overridden = false;
  };
  struct KeyHash {
    std::size_t operator()(const Key& key) const {
      return std::hash<std::string>{}(key.pool) ^ (std::size_t{key.id} * 0x9E3779B97F4A7C15ULL) ^
             (static_cast<std::size_t>(key.subject) << 61U);
    }
  };

  [[nodiscard]] Limit limit_of(const Key& key) const;
  [[nodiscard]] schema::QuotaInfo describe(const Key& key, const Amount& used) const;
  Result<void> fits(const Key& key, const Amount& asked) const;
  void add(const Payer& payer, const Amount& amount);
  void subtract(const Payer& payer, const Amount& amount);

  policy::Subordinates subordinates_;
  std::map<Key, Limits> policy_;
  std::map<Key, Limits> overrides_;
  std::unordered_map<Key, Amount, KeyHash> usage_;
  struct PoolBook {
    std::uint64_t capacity = 0;
    std::uint64_t used = 0;
    std::uint64_t regions = 0;
  };
  std::map<std::string, PoolBook> pools_;
};

}  // namespace mapcap::broker
