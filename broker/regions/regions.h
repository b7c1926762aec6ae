// The verbs on regions: each a straight line of owned steps.
//
//     authorize -> charge -> carve -> hold -> record -> confine -> reply
//
// Every step returns an owner that undoes it when a later step fails. After the reply has left, memory goes
// back only through reclaim.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>

#include "broker/books/connections.h"
#include "broker/books/directory.h"
#include "broker/books/drains.h"
#include "broker/books/pools.h"
#include "broker/keeper/keeper.h"
#include "broker/ledger/ledger.h"
#include "broker/regions/asker.h"
#include "broker/regions/clock.h"
#include "broker/regions/custody.h"
#include "broker/regions/delivery.h"
#include "broker/regions/expiry.h"
#include "broker/regions/notifier.h"
#include "broker/regions/reclaim.h"
#include "broker/wait/task.h"
#include "broker/wait/worker.h"
#include "policy/judge.h"
#include "policy/plan.h"
#include "policy/policy.h"

namespace mapcap::broker {

/// What decided about a request, for the audit: what a refusal does not say by itself, or may not say.
struct Judged {
  std::string rule;     ///< Of what was allowed: Permit::rule.
  bool hidden = false;  ///< The region is there, and the caller was told that it is not.
  std::string left;     ///< What an endpoint's end could not take back: AuditRecord::left.
};

/// Who asks, on which connection.
struct Caller {
  const policy::Subject& subject;
  SessionId session = 0;
  Token token{};
  std::uint64_t request = 0;  ///< For progress notices.
  Judged* judged = nullptr;   ///< Who wants to know; may be null. Outlives the verb.
  Asker* asker = nullptr;     ///< Null: he stays. Outlives the verb.

  void allowed_by(const policy::Permit& permit) const {
    if (judged != nullptr) judged->rule = permit.rule;
  }
};

/// The class is one, its parts are files: regions.cpp opens, renews, revokes and issues; create.cpp, list.cpp,
/// publish.cpp and explain.cpp are those verbs; estate.cpp is what an endpoint leaves, recovery.cpp what a start finds, ending.cpp what a
/// shutdown ends. What is taken back goes through Reclaim (reclaim.cpp, cut.cpp, free.cpp), which Expiry (expiry.cpp),
/// Connections (../books) and a revoke all come to. Custody (custody.cpp) knows who else holds memory.
class Regions {
 public:
  struct Parts {
    Loop& loop;
    Worker& worker;    ///< For what a client waits for.
    Worker& scrubber;  ///< For what nobody waits for.
    Worker& prober;    ///< For questions that take long; one thread.
    Worker&
        sealer;  ///< For publishes, which wait for pinned pages in the kernel: nobody else waits behind them.
    Directory& directory;
    Quotas& quotas;
    ledger::Ledger& ledger;
    keeper::Keeper& keeper;
    Custody& custody;
    Notifier& notifier;
    Report& report;
    const Clock& clock;
    const ledger::BootId& boot;
    const ServedPools& pools;
  };
  Regions(Parts parts, std::shared_ptr<const policy::Policy> policy);

  /// Takes effect with the next request; what exists is not touched.
  void set_policy(std::shared_ptr<const policy::Policy> policy);
  /// Who stands behind a uid: for quotas at once (Quotas::set_subordinates), for requests from the next, and for keepers
  /// that start from now on.
  void set_subordinates(const policy::Subordinates& subordinates);
  [[nodiscard]] const policy::Policy& policy() const { return *policy_; }
  /// When it was set, in ns since 1970 (UTC).
  [[nodiscard]] std::int64_t policy_since() const { return policy_since_; }
  [[nodiscard]] const std::shared_ptr<const policy::Policy>& shared_policy() const { return policy_; }

  /// The policy's word on a verb that is about no region, told to the audit. Errors: of Policy::authorize.
  [[nodiscard]] Result<void> authorize(const Caller& caller, const policy::Action& action) const;
  [[nodiscard]] Result<void> authorize(const Caller& caller, policy::Verb verb) const;
  [[nodiscard]] bool allows(const Caller& caller, policy::Verb verb) const;

  /// What a verb would answer just now, up to what only doing it can tell. Errors: `invalid` for a verb that
  /// there is not.
  Result<schema::Explained> explain(const policy::Subject& subject, const schema::PolicyExplain& ask);
  /// Whether they are live, lost or on their way out.
  [[nodiscard]] std::uint64_t regions_in(const std::string& pool);
  /// For the sweep of a pool that is added.
  [[nodiscard]] pool::Recorded recorded();
  /// Called whenever another policy has taken effect, or uids are lent to others.
  void on_policy(std::function<void()> changed) { policy_changed_ = std::move(changed); }

  Task<Result<Delivery>> create(Caller caller, schema::Create ask);
  Task<Result<Delivery>> open(Caller caller, schema::Open ask);
  Task<Result<Delivery>> list(Caller caller, schema::List ask);
  Task<Result<Delivery>> show(Caller caller, schema::Show ask);
  Task<Result<Delivery>> renew(Caller caller, schema::Renew ask);
  Task<Result<Delivery>> revoke(Caller caller, schema::Revoke ask);
  /// Ends what the caller made with the lifetime `connection`, now instead of a grace period after he has gone.
  Task<Result<Delivery>> goodbye(Caller caller);
  Task<Result<Delivery>> publish(Caller caller, schema::Publish ask);

  /// How many regions lie in volatile memory, whose they are, and how many do not.
  Task<ShutdownResult> count_volatile();
  /// All of them end: revoked as by their owners (promise 5), and their records gone, whoever still has the
  /// memory. Nothing is created meanwhile, nor after it has succeeded. What a broker that dies on the way has not
  /// ended is there at the next start, and may be asked for again. Errors, after which nothing but what has ended
  /// is different: of Reclaim::end; `busy` when it is under way already.
  Task<Result<ShutdownResult>> end_volatile();
  /// Of the states that there are.
  Task<std::vector<StateCount>> count_states();

  /// Before the first request: what the ledger, the keeper and the fd store brought over.
  struct Inheritance {
    std::vector<ledger::RegionRecord> records;
    std::vector<keeper::HeldMemory> memory;
    std::vector<confine::LiveGrant> grants;
    std::uint64_t damaged = 0;
  };
  void recover(Inheritance inheritance);
  /// The kernel says that nothing of a grant is left. False when it is no region's.
  bool released(confine::GrantId grant);
  /// The uid that a grant of a region was issued to; empty when it is no region's.
  [[nodiscard]] std::optional<std::uint32_t> holder_of(confine::GrantId grant) const {
    return parts_.directory.holder_of(grant);
  }
  // What an endpoint leaves (estate.cpp).

  /// What `owner` has that was not taken away yet. Looks at all regions, in turns.
  Task<std::vector<RegionId>> owned_by(std::uint32_t owner);
  /// Whether any region, also one that is on its way out, has that owner.
  Task<bool> owns_any(std::uint32_t owner);
  /// What lives on and `holder` has grants of. Looks at all regions, in turns.
  struct Opened {
    RegionId region;
    std::string name;
    std::uint64_t grants = 0;
  };
  Task<std::vector<Opened>> opened_by(std::uint32_t holder);
  /// As `owner`'s own revoke, of what he owns. Errors: `denied`, and as Reclaim::revoke.
  Task<Result<Revoked>> take_back(RegionId id, const policy::Subject& owner);
  /// As its owner's revoke. Errors: as Reclaim::revoke.
  Task<Result<Revoked>> take_away(RegionId id);
  /// From now on `heir` owns it and is charged for it alone, durably. Errors: `denied` when the policy would
  /// not let him create it, `busy` for one that is no live region or lives by a connection, `io`.
  Task<Result<void>> hand_over(RegionId id, const policy::Subject& heir);

  /// A new keeper serves: it must hold every volatile region again, and knows none of the old grants.
  void keeper_replaced();

  Connections& connections() { return connections_; }
  [[nodiscard]] const Expiry& expiry() const { return expiry_; }

 private:
  struct Plan;
  class Carved;
  Result<Plan> plan_create(const Caller& caller, const schema::Create& ask) const;
  /// As the pools in service make regions.
  [[nodiscard]] std::vector<policy::Offer> offers() const;
  Result<Region*> find_for(const Caller& caller, const policy::Wish& wish, const std::string& name);
  /// `blank`: the region's, where it was made of one.
  Task<Result<confine::Issued>> issue(RegionId id, const policy::Subject& holder, Access rights,
                                      confine::Blank* blank = nullptr);
  /// What a grant of it says of itself.
  [[nodiscard]] static confine::Label label_of(const ledger::RegionRecord& record, const ServedPool& pool,
                                               const policy::Subject& holder, Access rights);
  [[nodiscard]] std::optional<confine::Blank> take_blank(const Plan& plan, std::optional<Access> grant);
  /// Refers to the region.
  static policy::Existing as_judged(const Region& region);
  Undo undo_create(RegionId id);
  void begin_lifetime(Region& region, const Caller& caller);
  void watch(Region& region, SessionId session);
  void end_lifetime(const Region& region);
  /// All but its bad blocks.
  [[nodiscard]] RegionInfo describe(const Region& region) const;
  /// So many grants of one holder, with where he ran or without.
  [[nodiscard]] Holder describe(const Grants::Holder& holder, std::uint32_t count, bool with_place) const;
  /// Puts the bad blocks of these regions, which describe() made, into them.
  Task<void> tell_damage(std::span<RegionInfo> regions) const;
  [[nodiscard]] bool visible_to(const Region& region, const policy::Subject& subject) const;
  void recover_one(ledger::RegionRecord record, Fd memory);
  void end(RegionId id);
  /// Each region, in pieces: those that are added meanwhile may be left out. Its body: visit_in_pieces.h.
  template <typename Visit>
  Task<void> visit_in_pieces(Visit visit);
  struct Crew;
  Task<void> end_one(std::shared_ptr<Crew> crew, RegionId id);
  Task<Result<ShutdownResult>> end_all_volatile();
  class Publishing;
  Task<Result<void>> outlast_writers(RegionId id, std::chrono::nanoseconds within, Asker& asker);
  Task<Result<void>> forbid_writing(RegionId id);
  Task<Result<void>> record_published(RegionId id);
  Task<void> resume_publish(RegionId id);
  Task<void> record_later(RegionId id);
  bool reattach(Region& region, Fd memory);

  /// Found by recover(): volatile regions whose memory is gone.
  struct LostNow {
    std::uint64_t regions = 0;
    std::set<std::uint32_t> users;
    std::string example;
    void add(const ledger::RegionRecord& record) {
      if (++regions == 1) example = record.name;
      users.insert(record.owner);
    }
  };
  [[nodiscard]] Result<void> check_drains(std::uint32_t account) const;

  Parts parts_;
  LostNow lost_now_;
  bool ending_ = false;       ///< end_volatile is at work, or has been.
  std::size_t creating_ = 0;  ///< Creates that are under way.
  std::shared_ptr<const policy::Policy> policy_;
  std::int64_t policy_since_ = 0;
  bool records_complete_ = true;  ///< The ledger had no damaged ones.
  std::function<void()> policy_changed_;
  Drains drains_;
  Reclaim reclaim_;
  Expiry expiry_;
  Connections connections_;
};

}  // namespace mapcap::broker
