// How the broker ends, when it is asked to: by a signal, or by the verb shutdown.
#pragma once

#include <string>

#include "broker/door/endpoints.h"
#include "broker/door/listener.h"
#include "broker/door/service_verbs.h"
#include "broker/keeper/keeper.h"
#include "broker/ledger/ledger.h"
#include "broker/report/report.h"
#include "broker/wait/loop.h"
#include "broker/wait/task.h"

namespace mapcap::broker {

class OrderlyEnd {
 public:
  /// All outlive this.
  struct Parts {
    Loop& loop;
    Report& report;
    Listener& listener;
    Endpoints& endpoints;
    keeper::Keeper& keeper;
    ledger::Ledger& ledger;
  };
  explicit OrderlyEnd(Parts parts) : parts_(parts) {}
  OrderlyEnd(const OrderlyEnd&) = delete;
  OrderlyEnd& operator=(const OrderlyEnd&) = delete;

  /// Nobody is served any more, the keeper gets what it is to hold, the ledger becomes durable, and the loop ends. Asked
  /// twice it waits for the keeper alone.
  void begin(const std::string& why);
  /// The same, of a shutdown that said what becomes of the keeper.
  void begin(ServiceVerbs::Keeper becomes);

  /// Behind the loop. Memory stays with the keeper, unless all of it was ended by a shutdown: no signal destroys data.
  void leave_the_keeper();

 private:
  Task<void> close_and_stop();

  Parts parts_;
  bool begun_ = false;
  ServiceVerbs::Keeper keepers_ = ServiceVerbs::Keeper::stays;
};

}  // namespace mapcap::broker
