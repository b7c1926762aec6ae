// From a decoded request to a verb, and from a verb's result to a reply.
#pragma once

#include "broker/door/audited.h"
#include "broker/door/endpoints.h"
#include "broker/door/listener.h"
#include "broker/door/service_verbs.h"
#include "broker/door/session.h"
#include "broker/foreign/file_clones.h"
#include "broker/regions/policy_verbs.h"
#include "broker/regions/quota_verbs.h"
#include "broker/regions/regions.h"
#include "broker/report/audit.h"

namespace mapcap::broker {

class Dispatch final : public Handler {
 public:
  Dispatch(Regions& regions, Quotas& quotas, ledger::Ledger& ledger, const ServedPools& pools,
           FileClones& clones, Listener& listener, Audit& audit, ServiceVerbs& service,
           PolicySource& policies, Endpoints& endpoints)
      : regions_(regions),
        quotas_(quotas),
        pools_(pools),
        quota_(regions, quotas, ledger, pools),
        policy_(regions, policies),
        clones_(clones),
        listener_(listener),
        audit_(audit),
        service_(service),
        endpoints_(endpoints) {}

  Task<Delivery> handle(Session& session, schema::Request request) override;
  void ended(Session& session) override;

 private:
  /// Whose request it is; both outlive the verb.
  struct From {
    Session& session;
    const Caller& caller;
  };
  // One for each request that there is: a verb that nobody serves does not compile.
  Task<Result<Delivery>> serve(From from, schema::Hello ask);
  Task<Result<Delivery>> serve(From from, schema::Create ask) {
    return regions_.create(from.caller, std::move(ask));
  }
  Task<Result<Delivery>> serve(From from, schema::Open ask) {
    return regions_.open(from.caller, std::move(ask));
  }
  Task<Result<Delivery>> serve(From from, schema::List ask) {
    return regions_.list(from.caller, std::move(ask));
  }
  Task<Result<Delivery>> serve(From from, schema::Show ask) {
    return regions_.show(from.caller, std::move(ask));
  }
  Task<Result<Delivery>> serve(From from, schema::Renew ask) {
    return regions_.renew(from.caller, std::move(ask));
  }
  Task<Result<Delivery>> serve(From from, schema::Revoke ask) {
    return regions_.revoke(from.caller, std::move(ask));
  }
  Task<Result<Delivery>> serve(From from, schema::Publish ask) {
    return regions_.publish(from.caller, std::move(ask));
  }
  Task<Result<Delivery>> serve(From from, schema::Pools ask);
  Task<Result<Delivery>> serve(From from, schema::Quota ask) {
    return quota_.list(from.caller, std::move(ask));
  }
  Task<Result<Delivery>> serve(From from, schema::QuotaSet ask) {
    return quota_.set(from.caller, std::move(ask));
  }
  Task<Result<Delivery>> serve(From from, schema::QuotaClear ask) {
    return quota_.clear(from.caller, std::move(ask));
  }
  Task<Result<Delivery>> serve(From from, schema::Reload /*ask*/) { return policy_.reload(from.caller); }
  Task<Result<Delivery>> serve(From from, schema::PolicyShow ask) { return policy_.show(from.caller, ask); }
  Task<Result<Delivery>> serve(From from, schema::PolicyExplain ask) {
    auto about = endpoints_.authority(ask.uid);
    return policy_.explain(from.caller, std::move(ask), std::move(about));
  }
  Task<Result<Delivery>> serve(From from, schema::CloneFd ask);
  Task<Result<Delivery>> serve(From from, schema::AskClonePort ask);
  Task<Result<Delivery>> serve(From from, schema::Goodbye) { return regions_.goodbye(from.caller); }
  Task<Result<Delivery>> serve(From from, schema::Shutdown ask) {
    return service_.shutdown(from.caller, ask);
  }
  Task<Result<Delivery>> serve(From from, schema::AskStatus ask) { return service_.status(from.caller, ask); }
  Task<Result<Delivery>> serve(From from, schema::EndpointCreate ask) {
    return endpoints_.create(from.caller, std::move(ask));
  }
  Task<Result<Delivery>> serve(From from, schema::EndpointList ask) {
    return endpoints_.list(from.caller, std::move(ask));
  }
  Task<Result<Delivery>> serve(From from, schema::EndpointShow ask) {
    return endpoints_.show(from.caller, std::move(ask));
  }
  Task<Result<Delivery>> serve(From from, schema::EndpointRenew ask) {
    return endpoints_.renew(from.caller, std::move(ask));
  }
  Task<Result<Delivery>> serve(From from, schema::EndpointEnd ask) {
    return endpoints_.end(from.caller, std::move(ask));
  }

  void record(const Session& session, const Audited& what, const Judged& judged, const Failure* refusal);
  Result<Delivery> hello(Session& session, const schema::Hello& ask);

  Regions& regions_;
  Quotas& quotas_;
  const ServedPools& pools_;
  QuotaVerbs quota_;
  PolicyVerbs policy_;
  FileClones& clones_;
  Listener& listener_;
  Audit& audit_;
  ServiceVerbs& service_;
  Endpoints& endpoints_;
};

}  // namespace mapcap::broker
