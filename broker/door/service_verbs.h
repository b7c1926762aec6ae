// The verbs on the broker itself: how it is, and how it ends.
#pragma once

#include <cstdint>
#include <functional>

#include "broker/door/listener.h"
#include "broker/keeper/keeper.h"
#include "broker/ledger/ledger.h"
#include "broker/regions/regions.h"
#include "broker/wait/task.h"

namespace mapcap::broker {

class ServiceVerbs {
 public:
  /// What becomes of the keeper when the broker ends.
  enum class Keeper : bool { stays, ends };
  /// All outlive this.
  struct Parts {
    Regions& regions;
    Directory& directory;
    keeper::Keeper& keeper;
    const Custody& custody;
    const ledger::Ledger& ledger;
    const ServedPools& pools;
    const Listener& listener;
    const Clock& clock;
  };
  /// `stop`: called once the reply to a shutdown has left; ends the broker as SIGTERM does.
  ServiceVerbs(Parts parts, std::function<void(Keeper)> stop)
      : parts_(parts), stop_(std::move(stop)), started_unix_(parts.clock.unix_ns()) {}

  /// For whoever may ask for the pools; names of other users' regions to administrators only. Errors: `denied`.
  Task<Result<Delivery>> status(Caller caller, schema::AskStatus ask) const;

  /// Answers when what was asked for has happened, but for the end itself. Errors: `denied`; `busy` when memory
  /// has no second holder that would outlive the broker, or when another shutdown is under way; of
  /// Regions::end_volatile.
  Task<Result<Delivery>> shutdown(Caller caller, schema::Shutdown ask);

 private:
  Parts parts_;
  std::function<void(Keeper)> stop_;
  const std::chrono::nanoseconds started_unix_;
};

}  // namespace mapcap::broker
