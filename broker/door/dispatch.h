// From a decoded request to a verb, and from a verb's result to a reply.
#pragma once

#include "broker/door/listener.h"
#include "broker/door/session.h"
#include "broker/foreign/file_clones.h"
#include "broker/regions/regions.h"

namespace mapcap::broker {

class Dispatch final : public Handler {
 public:
  Dispatch(Regions& regions, Quotas& quotas, ledger::Ledger& ledger, const ServedPools& pools,
           FileClones& clones, Listener& listener)
      : regions_(regions),
        quotas_(quotas),
        ledger_(ledger),
        pools_(pools),
        clones_(clones),
        listener_(listener) {}

  Task<Delivery> handle(Session& session, schema::Request request) override;
  void ended(Session& session) override;

 private:
  Result<Delivery> hello(Session& session, const schema::Hello& ask);
  Result<Delivery> pools(const policy::Subject& subject);
  Result<Delivery> quota(const policy::Subject& subject, const schema::Quota& ask);
  Task<Result<Delivery>> clone_port(const Session& session);
  Task<Result<Delivery>> clone_file(const Session& session, schema::CloneFd ask);
  Task<Result<Delivery>> quota_set(const policy::Subject& subject, schema::QuotaSet ask);
  Task<Result<Delivery>> quota_clear(const policy::Subject& subject, schema::QuotaClear ask);
  [[nodiscard]] Result<void> authorize(const policy::Subject& subject, policy::Verb verb) const;

  Regions& regions_;
  Quotas& quotas_;
  ledger::Ledger& ledger_;
  const ServedPools& pools_;
  FileClones& clones_;
  Listener& listener_;
};

}  // namespace mapcap::broker
