#include "broker/door/dispatch.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <variant>

namespace mapcap::broker {

using policy::Verb;

namespace {

constexpr std::uint64_t kFeatures =
    schema::kFeatureNotices | schema::kFeatureClonePorts | schema::kFeatureGoodbye | schema::kFeaturePublish;

}  // namespace

Task<Delivery> Dispatch::handle(Session& session, schema::Request request) {
  session.set_lender(quotas_.lender_of(session.subject().uid()));
  Judged judged;
  const Caller caller{session.subject(), session.id(), session.greeting().token,
                      request.id,        &judged,      &session.asker()};
  const std::optional<Audited> what = audited(request.body);
  Result<Delivery> result = failure(ErrorCode::malformed, "the first request of a connection is hello");
  if (session.greeting().done || std::holds_alternative<schema::Hello>(request.body)) {
    const From from{session, caller};
    result = co_await std::visit([&](auto& ask) { return serve(from, std::move(ask)); }, request.body);
  }
  if (what) record(session, *what, judged, result ? nullptr : &result.error());
  if (result) co_return std::move(result.value());
  Delivery refusal;
  refusal.body = std::move(result.error());
  co_return refusal;
}

void Dispatch::record(const Session& session, const Audited& what, const Judged& judged,
                      const Failure* refusal) {
  AuditRecord record;
  judge_record(record, judged, refusal);
  const bool refused = record.verdict == Verdict::denied || record.verdict == Verdict::over_quota;
  if (!what.always && !refused) return;
  record.who = actor_of(session);
  record.verb = what.verb;
  record.name = what.name;
  record.left = judged.left;
  audit_.note(std::move(record));
}

void Dispatch::ended(Session& session) {
  if (session.greeting().done) regions_.connections().closed(session.greeting().token);
  clones_.ended(session.id());
  listener_.forget(session);
}

Result<Delivery> Dispatch::hello(Session& session, const schema::Hello& ask) {
  if (session.greeting().done) {
    return failure(ErrorCode::malformed, "hello comes once, as the first request of a connection");
  }
  if (ask.version != schema::kProtocolVersion) {
    return failure(
        ErrorCode::version,
        "the client speaks protocol version " + std::to_string(ask.version) + ", this broker speaks " +
            std::to_string(schema::kProtocolVersion) + "; update the older of the two",
        {{"client", std::to_string(ask.version)}, {"broker", std::to_string(schema::kProtocolVersion)}});
  }
  Connections& connections = regions_.connections();
  schema::Welcome welcome;
  Session::Greeting greeting;
  greeting.done = true;
  greeting.wants_notices = (ask.features & schema::kFeatureNotices) != 0;
  if (ask.resume.size() == greeting.token.size()) {
    std::copy(ask.resume.begin(), ask.resume.end(), greeting.token.begin());
    welcome.resumed = connections.resume(greeting.token, session.subject().uid());
  }
  if (!welcome.resumed) greeting.token = connections.open(session.subject().uid());
  session.greet(greeting);
  welcome.features = ask.features & kFeatures;
  welcome.broker = "mapcapd " MAPCAP_VERSION;
  welcome.resume.assign(greeting.token.begin(), greeting.token.end());
  welcome.grace = connections.grace();
  return reply_of(std::move(welcome));
}

Task<Result<Delivery>> Dispatch::serve(From from, schema::Hello ask) {
  co_return hello(from.session, ask);
}

Task<Result<Delivery>> Dispatch::serve(From from, schema::Pools) {
  MAPCAP_CO_TRY_VOID(regions_.authorize(from.caller, Verb::pools));
  co_return reply_of(describe(pools_, quotas_));
}

Task<Result<Delivery>> Dispatch::serve(From from, schema::CloneFd ask) {
  policy::Action action = policy::action_of(Verb::clone);
  action.rights = ask.rights;
  MAPCAP_CO_TRY_VOID(regions_.authorize(from.caller, action));
  co_return co_await clones_.clone(from.session.id(), from.caller.subject, ask);
}

/// For whoever may clone with any rights: which ones are wanted is said later.
Task<Result<Delivery>> Dispatch::serve(From from, schema::AskClonePort) {
  policy::Action action = policy::action_of(Verb::clone);
  action.rights = Access::read_write;
  if (!regions_.policy().allows(from.caller.subject, action)) {
    action.rights = Access::read_only;
    MAPCAP_CO_TRY_VOID(regions_.authorize(from.caller, action));
  }
  co_return co_await clones_.open_port(from.session.id(), from.session.account());
}

}  // namespace mapcap::broker
