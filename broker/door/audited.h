// From a request and what became of it to its audit record. docs/audit.md is the promise.
#pragma once

#include <optional>
#include <string>

#include "broker/door/session.h"
#include "broker/regions/regions.h"
#include "broker/report/audit.h"

namespace mapcap::broker {

/// What an audit calls a request.
struct Audited {
  std::string verb;
  std::string name;  ///< Of what it is about; empty: nothing with a name.
  bool always =
      false;  ///< Changes or hands out something: recorded whatever becomes of it, else only when refused.
};
/// One for each request that there is. Nothing: leaves no record.
std::optional<Audited> audited(const schema::RequestBody& request);

/// Who is behind a session.
Actor actor_of(const Session& session);
/// Who was not let in: `account` is his. `endpoint` may be null.
Actor actor_of(const policy::Subject::Ids& peer, std::uint32_t account, const policy::Endpoint* endpoint);
/// Of what the broker does with an endpoint by itself: nobody, but its maker is named. `account` is the maker's.
Actor actor_for(const policy::Endpoint& endpoint, std::uint32_t account);

/// Of a request that was refused: by whom, and with which words. Of one that was not: by whom it was allowed.
void judge_record(AuditRecord& record, const Judged& judged, const Failure* refusal);

}  // namespace mapcap::broker
