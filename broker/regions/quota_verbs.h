// The verbs on quotas: who may use how much, and what an administrator says instead of the policy.
#pragma once

#include "broker/books/pools.h"
#include "broker/books/quotas.h"
#include "broker/ledger/ledger.h"
#include "broker/regions/delivery.h"
#include "broker/regions/regions.h"
#include "broker/wait/task.h"

namespace mapcap::broker {

class QuotaVerbs {
 public:
  /// All outlive this.
  QuotaVerbs(const Regions& regions, Quotas& quotas, ledger::Ledger& ledger, const ServedPools& pools)
      : regions_(regions), quotas_(quotas), ledger_(ledger), pools_(pools) {}

  /// A page of what binds the caller; of all for whoever may set quotas.
  /// Errors: `denied`; `invalid` for a cursor that no page ended with.
  Task<Result<Delivery>> list(Caller caller, schema::Quota ask) const;
  /// Limits that are not named stay as they were. Recorded before the reply.
  /// Errors: `denied`, `not_found` (the pool), `invalid` for a limit that could bind nobody.
  Task<Result<Delivery>> set(Caller caller, schema::QuotaSet ask);
  /// What the policy says holds again. Errors: `denied`, `not_found`.
  Task<Result<Delivery>> clear(Caller caller, schema::QuotaClear ask);

 private:
  const Regions& regions_;
  Quotas& quotas_;
  ledger::Ledger& ledger_;
  const ServedPools& pools_;
};

}  // namespace mapcap::broker
