// Endpoints: sockets that are authorities, from their making to their end.
//
//     active --end, ttl--> ending --all of it has ended--> ended --nothing names its number--> (gone)
//
// Each arrow is recorded before anything follows from it, and what follows can be repeated: a broker that dies
// anywhere goes on, at its next start, with the step that it was in. To end: nothing more is allowed; the
// socket goes, and whoever waits in it; sessions are closed, and their requests have ended; then what it made
// is revoked, or its maker's. No process need be gone for that, and none is looked for.
//
// An endpoint's number (its principal) is not given to another while a region, a charge or a grant names it:
// its record stays, ended, for as long.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "broker/books/pools.h"
#include "broker/books/quotas.h"
#include "broker/door/endpoint_directory.h"
#include "broker/door/listener.h"
#include "broker/ledger/ledger.h"
#include "broker/regions/regions.h"
#include "broker/report/report.h"
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
  };
  Endpoints(Parts parts, EndpointDirectory directory);
  Endpoints(const Endpoints&) = delete;
  Endpoints& operator=(const Endpoints&) = delete;

  /// Before regions are recovered, whose charges count for makers: what the ledger knows. `regions`: whose
  /// owners' numbers are not given out.
  void learn(std::vector<ledger::EndpointRecord> records, const std::vector<ledger::RegionRecord>& regions);
  /// After that, before the broker says that it is ready: listens again, and goes on ending what was ending.
  void start();

  /// What is judged of those who come by the endpoint of that number; null: none has it.
  [[nodiscard]] std::shared_ptr<const policy::Endpoint> authority(std::uint32_t principal) const;

  Task<Result<Delivery>> create(Caller caller, schema::EndpointCreate ask);
  Task<Result<Delivery>> list(Caller caller, schema::EndpointList ask);
  Task<Result<Delivery>> show(Caller caller, schema::EndpointShow ask);
  Task<Result<Delivery>> renew(Caller caller, schema::EndpointRenew ask);
  /// Returns when it has ended. A second end of the same endpoint joins the first. Errors: `io` from the
  /// ledger, then nothing has changed.
  Task<Result<Delivery>> end(Caller caller, schema::EndpointEnd ask);

 private:
  struct One {
    explicit One(Loop& loop) : changed(std::make_shared<Event>(loop)) {}
    ledger::EndpointRecord record;
    std::shared_ptr<policy::Endpoint> authority;  ///< What sessions are judged by.
    Loop::Timer ttl;
    bool ending = false;             ///< Somebody is about it.
    schema::EndpointEnded result;    ///< Of its end.
    std::shared_ptr<Event> changed;  ///< It has ended, or could not be.
  };

  [[nodiscard]] Result<void> authorize(const Caller& caller) const;
  /// The one of that id that the caller may see. Errors: `denied`, `not_found`.
  Result<One*> find_for(const Caller& caller, const std::string& id);
  [[nodiscard]] Result<ledger::EndpointRecord> plan(const Caller& caller, schema::EndpointSpec spec);
  [[nodiscard]] Result<void> check_room(const policy::Subject& maker) const;
  [[nodiscard]] std::uint32_t free_principal(std::uint64_t number) const;
  One& add(ledger::EndpointRecord record, policy::Subject::Maker maker);
  One* find(std::uint64_t number);
  void know(const One& one);
  void schedule(One& one);
  void policy_changed();
  Task<void> look_at_makers();
  [[nodiscard]] schema::EndpointInfo describe(const One& one) const;

  Task<Result<schema::EndpointEnded>> finish(std::uint64_t number);
  Task<void> finish_in_background(std::uint64_t number);
  Task<void> leave_nothing(One& one);
  Task<void> forget_when_free(std::uint64_t number);
  Task<void> record_in_background(ledger::EndpointRecord record);

  Parts parts_;
  EndpointDirectory directory_;
  std::map<std::uint64_t, std::unique_ptr<One>> all_;  ///< By number.
  std::map<std::string, One*> by_id_;                  ///< Those that have not ended.
  std::set<std::string> making_;                       ///< Ids that a create is working on.
  std::set<std::uint32_t> strange_;  ///< Numbers in the range that regions name and no endpoint has.
};

}  // namespace mapcap::broker
