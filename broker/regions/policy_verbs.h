// The verbs on the policy: read the file again, show it, and tell what it means.
#pragma once

#include <memory>

#include "broker/regions/delivery.h"
#include "broker/regions/policy_source.h"
#include "broker/regions/regions.h"
#include "broker/wait/task.h"

namespace mapcap::broker {

class PolicyVerbs {
 public:
  /// Both outlive this.
  PolicyVerbs(Regions& regions, PolicySource& source) : regions_(regions), source_(source) {}

  /// Errors: `denied`; of a file that cannot be read. A file that is wrong is no error: the reply says how.
  Task<Result<Delivery>> reload(Caller caller);
  /// A piece of the text. Errors: `denied`.
  Task<Result<Delivery>> show(Caller caller, schema::PolicyShow ask);
  /// `about`: the endpoint whose number is asked about; null: it is no endpoint's. Who came by an endpoint is told what the
  /// endpoint may do, whomever he asks about. Errors: `denied` for who asks about others and may not; `not_found` for a
  /// number of endpoints that none has; `invalid` for a verb that there is not.
  Task<Result<Delivery>> explain(Caller caller, schema::PolicyExplain ask,
                                 std::shared_ptr<const policy::Endpoint> about);

 private:
  Regions& regions_;
  PolicySource& source_;
};

}  // namespace mapcap::broker
