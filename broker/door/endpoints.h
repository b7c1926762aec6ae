// Endpoints: sockets that are authorities, from their making to their end.
//
//     active --end, ttl--> ending --all of it has ended--> ended --nothing names its number--> (gone)
//
// Each arrow is recorded before anything follows from it, and what follows can be repeated: a broker that dies
// anywhere goes on, at its next start, with the step that it was in. To end: nothing more is allowed; the
// socket goes, and whoever waits in it; sessions are closed, and their requests have ended; then what it made
// is revoked, or its maker's. No process need be gone for that, and none is looked for.
//
// What cannot be ended is a grant of a region that lives on: the mappings of a clone are the memory's own, so the
// kernel takes them back by cutting the memory and by nothing less. The end tells which regions those are, and
// revokes them where its maker owns them and asks for that.
//
// Ids are each maker's own, as names of regions begin with their owner's: nobody learns what ids others use, or takes
// one from them. The administrator's endpoints lie in RUNTIME/endpoints/ID, a user's in RUNTIME/endpoints/@UID/ID.
//
// A listening socket is held by the keeper and the fd store as memory is, under the endpoint's number, which no region
// has: whoever connects while no broker lives waits for the next one.
//
// An endpoint's number (its principal) is not given to another while a region, a charge or a grant names it:
// its record stays, ended, for as long.
#pragma once

#include <chrono>
#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "broker/books/pools.h"
#include "broker/books/quotas.h"
#include "broker/door/endpoint_directory.h"
#include "broker/door/listener.h"
#include "broker/keeper/keeper.h"
#include "broker/ledger/ledger.h"
#include "broker/regions/custody.h"
#include "broker/regions/regions.h"
#include "broker/report/audit.h"
#include "broker/report/report.h"
#include "broker/turns/allowance.h"
#include "broker/wait/event.h"
#include "broker/wait/worker.h"
#include "policy/endpoint.h"

namespace mapcap::broker {

class Endpoints {
 public:
  struct Parts {
    Loop& loop;
    Worker& accounts;  ///< Asks what the machine's accounts say of makers.
    Regions& regions;
    Quotas& quotas;
    ledger::Ledger& ledger;
    Listener& listener;
    Report& report;
    const Clock& clock;
    const ledger::BootId& boot;
    const ServedPools& pools;
    Audit& audit;
    Custody& custody;
    keeper::Keeper& keeper;
  };
  Endpoints(Parts parts, EndpointDirectory directory);
  /// Descriptors of directories that a user gets: each is a mount, in a namespace of its own, that lives until he
  /// closes it, and the kernel counts those as the broker's user's (user.max_mnt_namespaces).
  static constexpr std::uint32_t kDirectoriesAtOnce = 64;
  static constexpr std::chrono::seconds kNextDirectoryAfter{10};
  Endpoints(const Endpoints&) = delete;
  Endpoints& operator=(const Endpoints&) = delete;

  /// Before regions are recovered, whose charges count for makers: what the ledger knows. `regions`: whose
  /// owners' numbers are not given out.
  void learn(std::vector<ledger::EndpointRecord> records, const std::vector<ledger::RegionRecord>& regions);
  /// Before regions are recovered, too: takes the listening sockets of endpoints out of what an earlier broker left.
  void take_sockets(std::vector<keeper::HeldMemory>& held);
  /// After that, before the broker says that it is ready: listens again, and goes on ending what was ending.
  void start();
  /// The broker stops for good: only a service manager, who knows whether it starts again, keeps sockets.
  void leave();

  /// What is judged of those who come by the endpoint of that number; null: none has it.
  [[nodiscard]] std::shared_ptr<const policy::Endpoint> authority(std::uint32_t principal) const;

  Task<Result<Delivery>> create(Caller caller, schema::EndpointCreate ask);
  Task<Result<Delivery>> list(Caller caller, schema::EndpointList ask);
  Task<Result<Delivery>> show(Caller caller, schema::EndpointShow ask);
  Task<Result<Delivery>> renew(Caller caller, schema::EndpointRenew ask);
  /// Returns when it has ended. A second end of the same endpoint joins the first. Errors: `io` when the ledger
  /// refuses the first record, then nothing has changed, or a later one: then the endpoint is ending, and goes on when
  /// the ledger takes changes again. `busy` for one that is ending already without `revoke_opened`.
  Task<Result<Delivery>> end(Caller caller, schema::EndpointEnd ask);

 private:
  struct One {
    explicit One(Loop& loop) : changed(std::make_shared<Event>(loop)) {}
    ledger::EndpointRecord record;
    std::shared_ptr<policy::Endpoint> authority;  ///< What sessions are judged by.
    Loop::Timer ttl;
    Fd inherited;            ///< Its listening socket, from an earlier broker.
    bool recording = false;  ///< That it ends is on its way to the ledger.
    bool over = false;       ///< Nothing of it is left but what `result` tells, whatever the ledger says yet.
    std::optional<Failure> trouble;  ///< Why it goes on ending.
    EndpointEnded result;            ///< Of its end.
    std::shared_ptr<Event> changed;  ///< recording, over or trouble did.
  };
  /// Ids are each maker's own; who has the machine's power and a container's uid 0 are two makers.
  struct Name {
    std::uint32_t maker = 0;
    bool administrator = false;
    std::string id;
    auto operator<=>(const Name&) const = default;
  };
  static Name name_of(const ledger::EndpointRecord& record) {
    return {record.maker, record.maker_administrator, record.id};
  }
  static Name own_name(const policy::Subject& subject, std::string id) {
    return {subject.uid(), subject.administrator(), std::move(id)};
  }
  /// Its directory, below that of all.
  static std::string place_of(const ledger::EndpointRecord& record);

  /// The one that the caller means: ID of his own; USER/ID, or an ID that only one has, of others' for an
  /// administrator. Errors: `denied`, `not_found`, `invalid` for an ID that several have.
  Result<One*> find_for(const Caller& caller, const std::string& id);
  [[nodiscard]] Result<ledger::EndpointRecord> plan(const Caller& caller, EndpointSpec spec);
  [[nodiscard]] Result<void> check_room(const policy::Subject& maker) const;
  Result<void> allow_directory(const policy::Subject& subject);
  [[nodiscard]] std::uint32_t free_principal(std::uint64_t number) const;
  One& add(ledger::EndpointRecord record, policy::Subject::Maker maker);
  One* find(std::uint64_t number);
  void know(const One& one);
  void schedule(One& one);
  void policy_changed();
  Task<void> look_at_makers();
  [[nodiscard]] EndpointInfo describe(const One& one) const;

  /// True when this is what ends it.
  Task<Result<bool>> begin_end(std::uint64_t number, bool revoke_opened);
  Task<Result<EndpointEnded>> outcome(std::uint64_t number);
  Task<void> carry_out(std::uint64_t number);
  /// Nobody asked: its time has come, or a broker died while it ended.
  Task<void> end_by_itself(std::uint64_t number, std::string why);
  Task<void> leave_nothing(One& one);
  Task<std::optional<Failure>> end_owned(One& one);
  Task<std::optional<Failure>> look_at_opened(One& one);
  Task<void> forget_when_free(std::uint64_t number);
  Task<void> record_in_background(ledger::EndpointRecord record);

  Parts parts_;
  EndpointDirectory directory_;
  std::map<std::uint64_t, std::unique_ptr<One>> all_;               ///< By number.
  std::map<Name, One*> by_name_;                                    ///< Those that have not ended.
  std::set<Name> making_;                                           ///< What a create is working on.
  Allowance directories_{kDirectoriesAtOnce, kNextDirectoryAfter};  ///< Given out, by the maker's account.
  std::set<std::uint32_t> strange_;  ///< Numbers in the range that regions name and no endpoint has.
};

}  // namespace mapcap::broker
