#include "broker/regions/policy_verbs.h"

#include <utility>

namespace mapcap::broker {

using policy::Verb;

namespace {

Delivery reply_of(schema::ReplyBody body) {
  Delivery delivery;
  delivery.body = std::move(body);
  return delivery;
}

}  // namespace

Result<void> PolicyVerbs::authorize(const Caller& caller, Verb verb) const {
  policy::Action action;
  action.verb = verb;
  MAPCAP_TRY(const policy::Permit permit, regions_.policy().authorize(caller.subject, action));
  caller.allowed_by(permit);
  return ok();
}

Task<Result<Delivery>> PolicyVerbs::reload(Caller caller) {
  MAPCAP_CO_TRY_VOID(authorize(caller, Verb::reload));
  MAPCAP_CO_TRY(schema::Reloaded reloaded, co_await source_.reload(caller.subject.describe()));
  co_return reply_of(std::move(reloaded));
}

Task<Result<Delivery>> PolicyVerbs::show(Caller caller, schema::PolicyShow ask) {
  MAPCAP_CO_TRY_VOID(authorize(caller, Verb::policy));
  co_return reply_of(source_.in_force(ask.offset));
}

Task<Result<Delivery>> PolicyVerbs::explain(Caller caller, schema::PolicyExplain ask) {
  const Result<void> sees_all = authorize(caller, Verb::policy);
  if (ask.uid == caller.subject.uid()) {
    // Himself as the kernel attests him, which no lookup can.
    MAPCAP_CO_TRY(schema::Explained told, regions_.explain(caller.subject, ask));
    // That there is something which he may not see is not for him.
    if (!sees_all && told.refusal && told.refusal->code == ErrorCode::not_found) {
      told.judged.reset();
      told.refusal = policy::no_such_region(ask.ask.name);
    }
    co_return reply_of(std::move(told));
  }
  if (!sees_all) co_return sees_all.error();
  const policy::Subject subject = co_await source_.somebody(ask.uid);
  MAPCAP_CO_TRY(schema::Explained told, regions_.explain(subject, ask));
  co_return reply_of(std::move(told));
}

}  // namespace mapcap::broker
