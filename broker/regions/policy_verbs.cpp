#include "broker/regions/policy_verbs.h"

#include <utility>

#include "policy/endpoint.h"

namespace mapcap::broker {

using policy::Verb;

namespace {

/// That there is something which he may not see is not for him.
void hide_the_unseen(schema::Explained& told, const std::string& name) {
  if (!told.refusal || told.refusal->code != ErrorCode::not_found) return;
  told.judged.reset();
  told.refusal = policy::no_such_region(name);
}

}  // namespace

Task<Result<Delivery>> PolicyVerbs::reload(Caller caller) {
  MAPCAP_CO_TRY_VOID(regions_.authorize(caller, Verb::reload));
  MAPCAP_CO_TRY(ReloadOutcome reloaded, co_await source_.reload(caller.subject.describe()));
  co_return reply_of(std::move(reloaded));
}

Task<Result<Delivery>> PolicyVerbs::show(Caller caller, schema::PolicyShow ask) {
  MAPCAP_CO_TRY_VOID(regions_.authorize(caller, Verb::policy));
  co_return reply_of(source_.in_force(ask.offset));
}

Task<Result<Delivery>> PolicyVerbs::explain(Caller caller, schema::PolicyExplain ask,
                                            std::shared_ptr<const policy::Endpoint> about) {
  const Result<void> sees_all = regions_.authorize(caller, Verb::policy);
  // By an endpoint's socket nobody else can be asked about, and who is connected need not know its number.
  if (caller.subject.endpoint() != nullptr || ask.uid == caller.subject.uid()) {
    // Himself as the kernel attests him, which no lookup can.
    MAPCAP_CO_TRY(schema::Explained told, regions_.explain(caller.subject, ask));
    if (!sees_all) hide_the_unseen(told, ask.region.name);
    co_return reply_of(std::move(told));
  }
  // Whoever made an endpoint may know what it is worth.
  const bool made_it = about && about->maker.uid() == caller.subject.uid() &&
                       about->maker.administrator() == caller.subject.administrator();
  if (!sees_all && !made_it) co_return sees_all.error();
  if (about) {
    MAPCAP_CO_TRY(schema::Explained told,
                  regions_.explain(policy::Subject::by_endpoint(std::move(about)), ask));
    if (!sees_all) hide_the_unseen(told, ask.region.name);
    co_return reply_of(std::move(told));
  }
  if (policy::is_principal(ask.uid))
    co_return failure(ErrorCode::not_found,
                      "there is no endpoint with the number " + std::to_string(ask.uid));
  const policy::Subject subject = co_await source_.somebody(ask.uid);
  MAPCAP_CO_TRY(schema::Explained told, regions_.explain(subject, ask));
  co_return reply_of(std::move(told));
}

}  // namespace mapcap::broker
