// Quotas and pool capacities: who has taken what, and what may still be taken.
//
// Usage is counted for every user, in each pool and over all pools, whether or not a limit exists, and for
// every group that has a limit; who gives a group its first limit has it counted from the charges that there
// are. So a new policy or an override counts from the first moment. Usage is derived from the region records
// when the broker starts and moves only with Charges, so it cannot disagree with them.
//
// Which limit wins. A reservation by user u, a member of g and h, in pool p must fit every one of these
// slots:
//
//     (user u, p)  (user u, all pools)  (g, p)  (g, all pools)  (h, p)  (h, all pools)  (pool p's capacity)
//
// A group's limit is thus the sum over its members, by primary or supplementary group, whatever group their
// regions carry. Each of a slot's limits (bytes, regions, ...) is the administrator's override, where he set
// that one, else the policy's. A user without a slot of his own in the policy has those of `any` -- which are
// therefore a default for each single user, not a sum. The first slot in the order above that does not fit is
// the one the refusal names. A limit that is lowered below what is used takes nothing away: reservations are
// refused until usage has fallen.
//
// What an endpoint is charged with counts for its maker too, and for his groups: nobody has more by making
// endpoints. So a reservation by endpoint e of user u must fit (user e, p) (user e, all pools) before all of
// u's slots. Its own slots have the limits that it was made with, else those of `any`. Of the maker's
// connections its clients leave him a few, or they could keep him from ending it.
//
// A charge stays with the user, the groups and the pool that it was made for: who joins or leaves a group
// takes nothing with him. Only a restart looks anew: a charge that is restored falls into the groups that the
// accounts then give its user, and into the region's own. The user of a subordinate uid (/etc/subuid) is the
// user whom the uid was lent to, and its charges count for his groups too. When that changes, charges move to whoever has their uid now, as a restart would
// count them: what such a uid has taken binds him who is lent it from then on, and never both or nobody. As with a limit
// that is lowered, nothing is taken away.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/result.h"
#include "broker/ledger/table/record.h"
#include "mapcap/quota.h"
#include "policy/subordinates.h"

namespace mapcap::broker {

/// Of an override: no limit, whatever the policy says.
inline constexpr std::uint64_t kUnlimited = std::numeric_limits<std::uint64_t>::max();

struct Payer {
  using Groups = std::shared_ptr<const std::vector<std::uint32_t>>;
  Payer(std::uint32_t user, Groups of, std::string in, std::string called = {})
      : uid(user), groups(std::move(of)), pool(std::move(in)), name(std::move(called)) {}
  /// Of one group.
  Payer(std::uint32_t user, std::uint32_t gid, std::string in)
      : Payer(user, std::make_shared<const std::vector<std::uint32_t>>(1, gid), std::move(in)) {}

  std::uint32_t uid = 0;
  Groups groups;     ///< Sorted, without duplicates; never null.
  std::string pool;  ///< Empty for what belongs to no pool (connections, clones of files).
  std::string name;  ///< What messages call the user; empty: his uid.
};

struct Amount {
  std::uint64_t bytes = 0;
  std::uint64_t regions = 0;
  std::uint64_t grants = 0;
  std::uint64_t connections = 0;
};

class Quotas;

/// What the books know of an endpoint, by its number.
struct EndpointAccount {
  std::string id;
  std::uint32_t maker = 0;                             ///< uid
  std::string maker_name;                              ///< Empty: his uid.
  Payer::Groups groups;                                ///< The maker's. Never null.
  std::vector<std::pair<std::string, Limits>> limits;  ///< By pool; the empty one: over all pools.
  bool ended = false;                                  ///< It ends or has, and is still charged.
};

/// Of a maker's limit of connections, what clients of his endpoints may have.
constexpr std::uint64_t for_endpoints(std::uint64_t connections) {
  constexpr std::uint64_t kTheMakers = 4;
  return connections - (connections / 2 < kTheMakers ? connections / 2 : kTheMakers);
}

/// A charge in the books.
struct Taken {
  Payer payer;
  Amount amount;
  std::uint32_t uid = 0;  ///< Who really took it: the payer stands behind that uid.
  /// Of an endpoint's charge: its maker, and who stands behind him and is charged as well.
  struct Maker {
    std::uint32_t uid = 0;
    std::uint32_t account = 0;
  };
  std::optional<Maker> maker{};
  /// Who lent the uid, or that of the endpoint's maker: his groups are charged too. Null: nobody.
  std::shared_ptr<const policy::Lender> lender{};
};

/// What somebody has taken. Knows its own amount and payer, so giving back needs no arguments. Move-only.
class [[nodiscard]] Charge {
 public:
  Charge() = default;
  Charge(Charge&& other) noexcept;
  Charge& operator=(Charge&& other) noexcept;
  ~Charge() { end(); }
  /// Ends the charge now.
  void end();
  [[nodiscard]] Amount amount() const { return quotas_ == nullptr ? Amount{} : taken_->amount; }
  /// The user who has it by now; 0 of none.
  [[nodiscard]] std::uint32_t payer() const { return quotas_ == nullptr ? 0 : taken_->payer.uid; }
  /// Who took it, as reserve() is told. Not of none.
  [[nodiscard]] Payer taken_by() const;

 private:
  friend class Quotas;
  Charge(Quotas& quotas, std::list<Taken>::iterator taken) : quotas_(&quotas), taken_(taken) {}
  Quotas* quotas_ = nullptr;
  std::list<Taken>::iterator taken_;
};

class Quotas {
 public:
  Quotas() = default;
  Quotas(const Quotas&) = delete;
  Quotas& operator=(const Quotas&) = delete;
  /// The books must balance: every charge has ended.
  ~Quotas();

  /// A pool and its capacity in bytes, or another capacity of one. Only pools named here can be charged.
  void add_pool(const std::string& name, std::uint64_t capacity);
  /// In which nobody has anything.
  void remove_pool(const std::string& name);
  /// Counts at once, for what was taken before as well. Returns how many charges another user has by it.
  std::uint64_t set_subordinates(policy::Subordinates subordinates);
  /// The user that `uid` is charged to.
  [[nodiscard]] std::uint32_t account_of(std::uint32_t uid) const { return subordinates_.account_of(uid); }
  /// Whose denials hold for it.
  [[nodiscard]] std::shared_ptr<const policy::Lender> lender_of(std::uint32_t uid) const {
    return subordinates_.lender_of(uid);
  }
  /// Replaces all limits that come from the policy. `rules`: where it says them ("policy.toml:12"), one for each.
  void set_policy(const std::vector<ledger::QuotaRecord>& limits, const std::vector<std::string>& rules = {});
  /// What messages call a group.
  void name_group(std::uint32_t gid, const std::string& name) { group_names_[gid] = name; }
  /// Whom a restored charge's user belongs with, until it is set to nothing: asked once for each user.
  using Memberships = std::function<std::vector<std::uint32_t>(std::uint32_t uid)>;
  void set_memberships(Memberships of);
  void set_override(const ledger::QuotaRecord& limits);
  /// What the administrator set for the slot; all absent: nothing.
  [[nodiscard]] Limits override_of(SubjectKind subject, std::uint32_t id, const std::string& pool) const;
  /// False when there was none.
  bool clear_override(SubjectKind subject, std::uint32_t id, const std::string& pool);

  /// From now on what is charged to `principal` is charged to its maker as well. Replaces what was known.
  void know_endpoint(std::uint32_t principal, EndpointAccount account);
  /// Nothing is charged to it any more.
  void forget_endpoint(std::uint32_t principal) { endpoints_.erase(principal); }
  /// Null for a number that is no endpoint's.
  [[nodiscard]] const EndpointAccount* endpoint(std::uint32_t principal) const;
  /// The endpoint's id; empty for a number that is none's.
  [[nodiscard]] std::string endpoint_named(std::uint32_t principal) const;
  /// "user 1000", "endpoint reader-1": for sentences.
  [[nodiscard]] std::string whom(std::uint32_t principal) const;
  /// What a user or an endpoint has taken in all pools together.
  [[nodiscard]] Amount used_by(std::uint32_t uid) const;

  /// Takes `amount` for `payer`, or refuses: `over_quota` or `pool_full`, with details slot, what, used,
  /// limit, asked.
  Result<Charge> reserve(Payer payer, const Amount& amount);
  /// What reserve() would say.
  [[nodiscard]] Result<void> check(Payer payer, const Amount& amount) const;
  /// Takes what no limit holds for: never refused.
  Charge take(Payer payer, const Amount& amount);
  /// Takes what a record says was taken before a restart: never refused.
  Charge restore(Payer payer, const Amount& amount);

  /// The slots of one user and the given groups: those with a limit or with usage.
  [[nodiscard]] std::vector<QuotaInfo> report_for(std::uint32_t uid,
                                                  const std::vector<std::uint32_t>& groups) const;
  /// Every slot with a limit or with usage.
  [[nodiscard]] std::vector<QuotaInfo> report_all() const;

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
  /// Where it is said: "policy.toml:12", "quota set"; empty: not known.
  [[nodiscard]] std::string rule_of(const Key& key, std::optional<std::uint64_t> Limits::*limit) const;
  [[nodiscard]] std::vector<std::uint32_t> groups_with_slots(const std::vector<std::uint32_t>& groups) const;
  [[nodiscard]] QuotaInfo describe(const Key& key, const Amount& used) const;
  Result<void> fits(const Key& key, const Amount& asked, const Taken& taken) const;
  [[nodiscard]] std::string called(const Key& key, const Taken& taken) const;
  /// With whom an endpoint's charge counts as well.
  [[nodiscard]] Taken entry_for(Payer payer, const Amount& amount) const;
  /// The payer, and an endpoint's maker.
  [[nodiscard]] static std::vector<std::uint32_t> users_of(const Taken& taken);
  /// Those of the payer's groups that are counted, in order.
  [[nodiscard]] std::vector<std::uint32_t> counted_groups(const Taken& taken) const;
  void count(const Key& key, const Amount& amount);
  void count_groups(const Taken& taken);
  void uncount_groups(const Taken& taken);
  void uncount(const Key& key, const Amount& amount);
  /// Which groups have a limit may have changed.
  void recount_groups();
  /// The payer's uid is his own: whoever stands behind it pays.
  Charge enter(Taken entry);
  void count_user(const Taken& taken);
  void uncount_user(const Taken& taken);
  void leave(std::list<Taken>::iterator taken);

  policy::Subordinates subordinates_;
  std::map<Key, Limits> policy_;
  std::map<Key, std::string> rules_;  ///< Where the policy says its limits, for refusals.
  std::map<Key, Limits> overrides_;
  std::unordered_map<Key, Amount, KeyHash> usage_;
  std::list<Taken> taken_;                  ///< Every charge.
  std::set<std::uint32_t> limited_groups_;  ///< Those that are counted.
  std::map<std::uint32_t, std::string> group_names_;
  std::unordered_map<std::uint32_t, EndpointAccount> endpoints_;
  Memberships memberships_;
  std::unordered_map<std::uint32_t, std::vector<std::uint32_t>> known_memberships_;
  struct PoolBook {
    std::uint64_t capacity = 0;
    std::uint64_t used = 0;
    std::uint64_t regions = 0;
  };
  std::map<std::string, PoolBook> pools_;
};

}  // namespace mapcap::broker
