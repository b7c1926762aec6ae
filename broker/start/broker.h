// The broker, wired: everything that a request meets, who knows whom, and what an earlier broker left to it.
#pragma once

#include <optional>
#include <vector>

#include "broker/assembly.h"
#include "broker/books/directory.h"
#include "broker/books/quotas.h"
#include "broker/books/releases.h"
#include "broker/config.h"
#include "broker/door/dispatch.h"
#include "broker/door/endpoints.h"
#include "broker/door/listener.h"
#include "broker/door/service_verbs.h"
#include "broker/door/user_names.h"
#include "broker/foreign/examiner_process.h"
#include "broker/foreign/file_clones.h"
#include "broker/foreign/file_examiner.h"
#include "broker/keeper/keeper.h"
#include "broker/ledger/ledger.h"
#include "broker/lent_uids.h"
#include "broker/regions/clock.h"
#include "broker/regions/custody.h"
#include "broker/regions/fd_store.h"
#include "broker/regions/regions.h"
#include "broker/reload.h"
#include "broker/start/orderly_end.h"
#include "broker/start/power.h"
#include "broker/start/reporting.h"
#include "broker/start/workers.h"
#include "broker/turns/fair_gate.h"
#include "policy/subordinates.h"

namespace mapcap::broker {

class Broker {
 public:
  /// All outlive this.
  struct Parts {
    const Config& config;
    const Power& power;
    Loop& loop;
    Reporting& reporting;
    Workers& workers;
    keeper::Keeper& keeper;
    ledger::Ledger& ledger;
    const ledger::BootId& boot;
    ServedPools& pools;
    Confiners& confiners;
    FdStore* store;  ///< Null where no service manager keeps descriptors.
  };
  Broker(Parts parts, ListeningSocket socket, foreign::ExaminerProcess examiner,
         const policy::Subordinates& subordinates);
  Broker(const Broker&) = delete;
  Broker& operator=(const Broker&) = delete;

  /// What an earlier broker left in the ledger, with the keeper, and, `stored`, with the service manager. Errors: `invalid`
  /// for records of a pool that the policy does not have.
  Result<void> take_over(std::vector<keeper::HeldMemory> stored);
  /// Serves from now on, while the loop runs. `changes`: of the machine's accounts, watched since before they were read.
  void begin(Result<AccountChanges> changes);
  /// Behind the loop.
  void leave();

 private:
  void connect_keeper();

  Parts parts_;
  Quotas quotas_;
  Directory directory_;
  Custody custody_;
  FileExaminer examiner_;
  FileClones clones_;
  SystemClock clock_;
  FairGate gate_;
  UserNames names_;
  Listener listener_;
  Regions regions_;
  Reload reload_;
  Endpoints endpoints_;
  OrderlyEnd end_;
  ServiceVerbs service_;
  Dispatch dispatch_;
  Releases releases_;
  std::optional<LentUids> lent_uids_;
};

}  // namespace mapcap::broker
