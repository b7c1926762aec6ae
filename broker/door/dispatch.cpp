#include "broker/door/dispatch.h"

#include <algorithm>
#include <charconv>
#include <iterator>

#include "broker/books/quota_limits.h"

namespace mapcap::broker {

using policy::Verb;

namespace {

constexpr std::uint64_t kFeatures = schema::kFeatureNotices | schema::kFeatureClonePorts;

Delivery done() {
  Delivery delivery;
  delivery.body = schema::Done{};
  return delivery;
}

}  // namespace

Task<Delivery> Dispatch::handle(Session& session, schema::Request request) {
  const Caller caller{session.subject(), session.id(), session.greeting().token, request.id};
  Result<Delivery> result = failure(ErrorCode::malformed, "the first request of a connection is hello");
  schema::RequestBody& body = request.body;
  if (const auto* ask = std::get_if<schema::Hello>(&body)) {
    result = hello(session, *ask);
  } else if (!session.greeting().done) {
    // Keeps the error it has.
  } else if (auto* create = std::get_if<schema::Create>(&body)) {
    result = co_await regions_.create(caller, std::move(*create));
  } else if (auto* open = std::get_if<schema::Open>(&body)) {
    result = co_await regions_.open(caller, std::move(*open));
  } else if (const auto* list = std::get_if<schema::List>(&body)) {
    result = co_await regions_.list(caller, *list);
  } else if (auto* show = std::get_if<schema::Show>(&body)) {
    result = co_await regions_.show(caller, std::move(*show));
  } else if (auto* renew = std::get_if<schema::Renew>(&body)) {
    result = co_await regions_.renew(caller, std::move(*renew));
  } else if (auto* revoke = std::get_if<schema::Revoke>(&body)) {
    result = co_await regions_.revoke(caller, std::move(*revoke));
  } else if (std::holds_alternative<schema::Pools>(body)) {
    result = pools(caller.subject);
  } else if (std::holds_alternative<schema::Quota>(body)) {
    result = quota(caller.subject, std::get<schema::Quota>(body));
  } else if (auto* set = std::get_if<schema::QuotaSet>(&body)) {
    result = co_await quota_set(caller.subject, std::move(*set));
  } else if (auto* clear = std::get_if<schema::QuotaClear>(&body)) {
    result = co_await quota_clear(caller.subject, std::move(*clear));
  } else if (std::holds_alternative<schema::AskClonePort>(body)) {
    result = co_await clone_port(session);
  } else if (const auto* clone = std::get_if<schema::CloneFd>(&body)) {
    result = co_await clone_file(session, *clone);
  }
  if (result) co_return std::move(result.value());
  Delivery refusal;
  refusal.body = std::move(result.error());
  co_return refusal;
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
  Delivery delivery;
  delivery.body = std::move(welcome);
  return delivery;
}

Result<void> Dispatch::authorize(const policy::Subject& subject, Verb verb) const {
  policy::Action action;
  action.verb = verb;
  MAPCAP_TRY_VOID(regions_.policy().authorize(subject, action));
  return ok();
}

Result<Delivery> Dispatch::pools(const policy::Subject& subject) {
  MAPCAP_TRY_VOID(authorize(subject, Verb::pools));
  schema::PoolList list;
  for (const auto& served : pools_) {
    const pool::Facts& facts = served->facts();
    schema::PoolInfo info;
    info.name = facts.name;
    info.backing = facts.backing;
    info.capacity = facts.capacity;
    info.used = {quotas_.pool_used(facts.name)};
    info.regions = quotas_.pool_regions(facts.name);
    info.granule = facts.granule;
    info.confinement = served->confiner->kind();
    info.confinement_reason = served->confinement_reason;
    info.seals = facts.seals;
    info.cache_modes = facts.cache_modes;
    info.cache_verified = served->cache_verified();
    info.durability = facts.durability;
    list.pools.push_back(std::move(info));
  }
  Delivery delivery;
  delivery.body = std::move(list);
  return delivery;
}

Result<Delivery> Dispatch::quota(const policy::Subject& subject, const schema::Quota& ask) {
  MAPCAP_TRY_VOID(authorize(subject, Verb::quota));
  policy::Action all;
  all.verb = Verb::quota_set;
  std::vector<schema::QuotaInfo> slots = regions_.policy().allows(subject, all)
                                             ? quotas_.report_all()
                                             : quotas_.report_for(subject.uid(), subject.groups());
  // The cursor counts slots: those that come or go between two pages may shift a page by one.
  std::size_t first = 0;
  const char* end = ask.cursor.data() + ask.cursor.size();
  if (!ask.cursor.empty()) {
    const auto [stop, failed] = std::from_chars(ask.cursor.data(), end, first);
    if (failed != std::errc{} || stop != end) {
      return failure(ErrorCode::invalid, "the quota cursor is not one that this broker gave");
    }
  }
  constexpr std::size_t kPage = 200;
  first = std::min(first, slots.size());
  const std::size_t last = std::min(first + kPage, slots.size());
  schema::QuotaList list;
  if (last < slots.size()) list.next = std::to_string(last);
  list.quotas.assign(std::make_move_iterator(slots.begin() + static_cast<std::ptrdiff_t>(first)),
                     std::make_move_iterator(slots.begin() + static_cast<std::ptrdiff_t>(last)));
  Delivery delivery;
  delivery.body = std::move(list);
  return delivery;
}

Task<Result<Delivery>> Dispatch::clone_file(const Session& session, schema::CloneFd ask) {
  policy::Action action;
  action.verb = Verb::clone;
  action.rights = ask.rights;
  MAPCAP_CO_TRY_VOID(regions_.policy().authorize(session.subject(), action));
  co_return co_await clones_.clone(session.id(), session.subject(), ask);
}

/// For whoever may clone with any rights: which ones are wanted is said later.
Task<Result<Delivery>> Dispatch::clone_port(const Session& session) {
  policy::Action action;
  action.verb = Verb::clone;
  action.rights = Access::read_write;
  if (!regions_.policy().allows(session.subject(), action)) {
    action.rights = Access::read_only;
    MAPCAP_CO_TRY_VOID(regions_.policy().authorize(session.subject(), action));
  }
  co_return co_await clones_.open_port(session.id(), session.account());
}

Task<Result<Delivery>> Dispatch::quota_set(const policy::Subject& subject, schema::QuotaSet ask) {
  MAPCAP_CO_TRY_VOID(authorize(subject, Verb::quota_set));
  if (!ask.pool.empty()) {
    MAPCAP_CO_TRY_VOID(regions_.policy().find_pool(ask.pool));
  }
  MAPCAP_CO_TRY_VOID(check_override(ask, pools_));
  // What is not named stays as it was set, or as the policy says.
  ledger::QuotaRecord record{ask.subject, ask.id, ask.pool,
                             quotas_.override_of(ask.subject, ask.id, ask.pool)};
  if (ask.limits.bytes) record.limits.bytes = ask.limits.bytes;
  if (ask.limits.regions) record.limits.regions = ask.limits.regions;
  if (ask.limits.grants) record.limits.grants = ask.limits.grants;
  if (ask.limits.connections) record.limits.connections = ask.limits.connections;
  MAPCAP_CO_TRY_VOID(co_await ledger_.put_quota(record));
  quotas_.set_override(record);
  co_return done();
}

Task<Result<Delivery>> Dispatch::quota_clear(const policy::Subject& subject, schema::QuotaClear ask) {
  MAPCAP_CO_TRY_VOID(authorize(subject, Verb::quota_set));
  MAPCAP_CO_TRY_VOID(co_await ledger_.erase_quota(ask.subject, ask.id, ask.pool));
  if (!quotas_.clear_override(ask.subject, ask.id, ask.pool)) {
    co_return failure(ErrorCode::not_found, "there is no quota override for that subject and pool");
  }
  co_return done();
}

}  // namespace mapcap::broker
