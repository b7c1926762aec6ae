// Open, renew and revoke, and what the verbs share. Create: region_create.cpp; list and show:
// region_list.cpp.
#include "broker/regions/regions.h"

#include <algorithm>
#include <optional>

#include "broker/books/quota_limits.h"
#include "broker/ledger/strength.h"
#include "policy/plan.h"
#include "schema/region_name.h"

namespace mapcap::broker {

using namespace std::chrono_literals;
using ledger::RegionRecord;
using policy::Verb;

namespace {

std::string durability_text(const Durability& durability) {
  return std::string(to_string(durability.granularity)) + " " + std::string(to_string(durability.domain)) +
         (durability.map_sync ? " map-sync" : "");
}

/// The three permission bits of `mode` that are this subject's: owner, group or others, as for a file.
std::uint32_t bits_for(const RegionRecord& record, const policy::Subject& subject) {
  if (subject.uid() == record.owner) return (record.mode >> 6U) & 7U;
  if (subject.in_group(record.group)) return (record.mode >> 3U) & 7U;
  return record.mode & 7U;
}

bool may_manage(const RegionRecord& record, const policy::Subject& subject) {
  return subject.uid() == record.owner || subject.administrator();
}

Result<void> check_mode(const RegionRecord& record, const policy::Subject& subject, Access rights) {
  if (subject.administrator()) return ok();
  const std::uint32_t needed = rights == Access::read_write ? 6U : 4U;
  if ((bits_for(record, subject) & needed) == needed) return ok();
  return failure(ErrorCode::denied,
                 "the mode " + format_mode(record.mode) + " of region " + record.name + " (owner " +
                     std::to_string(record.owner) + ", group " + std::to_string(record.group) +
                     ") does not give user " + std::to_string(subject.uid()) + " a " +
                     std::string(to_string(rights)) +
                     " grant; its owner can re-create it with another --mode",
                 {{"rule", "mode"}, {"mode", format_mode(record.mode)}});
}

Failure no_such(const std::string& name) {
  return failure(ErrorCode::not_found, "there is no region named " + name + " that you may see",
                 {{"name", name}});
}

}  // namespace

// ---- open

Task<Result<Delivery>> Regions::open(Caller caller, schema::Open ask) {
  MAPCAP_CO_TRY(Region * region, find_for(caller, Verb::open, ask.name));
  policy::Action action = action_on(*region, Verb::open);
  action.rights = ask.rights;
  MAPCAP_CO_TRY(const policy::Permit permit, policy_->authorize(caller.subject, action));
  caller.allowed_by(permit);
  MAPCAP_CO_TRY_VOID(check_mode(region->record, caller.subject, ask.rights));
  const RegionId id = region->id();
  MAPCAP_CO_TRY(confine::Issued issued, co_await issue(id, caller.subject, ask.rights));

  region = parts_.directory.find(id);
  watch(*region, caller.session);
  Delivery delivery;
  delivery.fd = std::move(issued.fd);
  schema::Granted granted;
  granted.region = describe(*region);
  co_await tell_damage({&granted.region, 1});
  granted.rights = ask.rights;
  granted.with_fd = true;
  delivery.body = std::move(granted);
  co_return delivery;
}

/// Charges, confines and tracks one grant. While it is under way the region's memory cannot go.
Task<Result<confine::Issued>> Regions::issue(RegionId id, const policy::Subject& holder, Access rights) {
  Region* region = parts_.directory.find(id);
  if (region->record.state == RegionState::lost) {
    const char* remedy = region->may_return()
                             ? "; bring its device or filesystem back and restart mapcapd, or revoke it"
                             : "; revoke it and create it again";
    co_return failure(ErrorCode::lost,
                      "region " + region->record.name + " was in memory that is gone" + remedy);
  }
  if (region->record.state != RegionState::live) {
    co_return failure(ErrorCode::busy, "region " + region->record.name + " is being taken away (" +
                                           std::string(to_string(region->record.state)) + ")");
  }
  const std::uint32_t uid = holder.uid();
  const Amount one{0, 0, 1, 0};
  MAPCAP_CO_TRY(Charge charge, parts_.quotas.reserve(
                                   {uid, holder.shared_groups(), region->record.pool, holder.user()}, one));
  confine::Confiner& confiner = *region->pool->confiner;

  confine::Label label;
  label.name = region->record.name;
  label.size = region->record.size;
  label.rights = rights;
  label.cache_requested = to_string(region->record.cache.mode);
  label.cache_effective = to_string(region->pool->cache_of(region->record));
  if (region->pool->facts().cache_mechanism != CacheMechanism::page_attribute)
    label.cache_effective += " " + std::string(to_string(region->pool->facts().cache_mechanism));
  label.durability = durability_text(region->pool->facts().durability);
  label.confinement = to_string(confiner.kind());
  label.holder = {uid, holder.gid()};
  region->touched = true;
  const bool first = region->pool->pool->granting(region->extent);
  ++region->issuing;
  Result<confine::Issued> issued = co_await confiner.issue(id, std::move(label), region->extent.fd());
  region = parts_.directory.find(id);
  --region->issuing;
  region->changed->notify();
  // Nobody else may have got one meanwhile.
  if (!issued && first && region->issuing == 0 && region->grants.empty() && !region->untracked)
    region->pool->pool->never_granted(region->extent);
  if (!issued) co_return issued.error();
  parts_.directory.track(*region, Grant{issued.value().grant, rights, uid, std::move(charge)});
  if (region->record.state != RegionState::live) {
    co_return failure(ErrorCode::busy, "region " + region->record.name + " was taken away meanwhile");
  }
  co_return issued;
}

// ---- renew, revoke

Task<Result<Delivery>> Regions::renew(Caller caller, schema::Renew ask) {
  MAPCAP_CO_TRY(Region * region, find_for(caller, Verb::renew, ask.name));
  if (region->record.state != RegionState::live) {
    co_return failure(ErrorCode::busy,
                      "region " + ask.name + " is " + std::string(to_string(region->record.state)));
  }
  if (region->record.lifetime != LifetimeKind::ttl) {
    co_return failure(ErrorCode::invalid, "region " + ask.name + " has the lifetime " +
                                              std::string(to_string(region->record.lifetime)) +
                                              ": only a ttl can be renewed");
  }
  if (ask.ttl < 1s) co_return failure(ErrorCode::invalid, "a ttl is at least 1 s");
  policy::Action action = action_on(*region, Verb::renew);
  action.lifetime = Lifetime{LifetimeKind::ttl, ask.ttl};
  if (auto allowed = policy_->authorize(caller.subject, action); allowed) {
    caller.allowed_by(allowed.value());
  } else {
    Failure refusal = allowed.error();
    const std::string remedy = policy::remedy_for(*policy_, caller.subject, action);
    if (!remedy.empty()) refusal.sentence += "; ask for " + remedy;
    co_return refusal;
  }

  RegionRecord renewed = region->record;
  start_ttl(renewed, ask.ttl, parts_.boot, parts_.clock);
  const RegionId id = region->id();
  MAPCAP_CO_TRY_VOID(co_await parts_.ledger.put(renewed, strength_of(renewed)));
  region = parts_.directory.find(id);
  if (region == nullptr || region->record.state != RegionState::live) {
    co_return failure(ErrorCode::busy, "region " + ask.name + " ended meanwhile");
  }
  region->record = renewed;
  expiry_.schedule(id, ask.ttl);
  Delivery delivery;
  schema::Renewed answer{describe(*region)};
  co_await tell_damage({&answer.region, 1});
  delivery.body = std::move(answer);
  co_return delivery;
}

Result<void> Regions::check_drains(std::uint32_t account) const {
  const std::size_t most = policy_->broker().max_connections_per_user;
  if (drains_.of(account) < most) return ok();
  return failure(
      ErrorCode::over_quota,
      "user " + std::to_string(account) + " has " + std::to_string(most) +
          " revokes that wait for holders, as many as he may have connections; end some by revoking their "
          "regions without --drain",
      {{"limit", std::to_string(most)}, {"used", std::to_string(drains_.of(account))}});
}

Task<Result<Delivery>> Regions::revoke(Caller caller, schema::Revoke ask) {
  MAPCAP_CO_TRY(Region * region, find_for(caller, Verb::revoke, ask.name));
  std::optional<Drains::Place> place;
  if (ask.drain) {
    const std::uint32_t account = parts_.quotas.account_of(caller.subject.uid());
    MAPCAP_CO_TRY_VOID(check_drains(account));
    place.emplace(drains_, account);
  }
  MAPCAP_CO_TRY(schema::Revoked revoked, co_await reclaim_.revoke(region->id(), {ask.drain, ask.within}));
  Delivery delivery;
  delivery.body = revoked;
  co_return delivery;
}

Task<Result<Delivery>> Regions::goodbye(Caller caller) {
  const std::set<RegionId> ending = connections_.take_regions(caller.token);
  for (const RegionId id : ending) {
    const Result<schema::Revoked> ended = co_await reclaim_.revoke(id, {});
    // A ledger that refuses has changed nothing: the grace period, which tries again, is next.
    const Region* still = parts_.directory.find(id);
    const bool lives = still != nullptr && still->record.state == RegionState::live;
    if (!ended && lives) connections_.enrol(caller.token, id);
  }
  Delivery delivery;
  delivery.body = schema::Done{};
  co_return delivery;
}

// ---- common ground

Regions::Regions(Parts parts, std::shared_ptr<const policy::Policy> policy)
    : parts_(parts),
      policy_(std::move(policy)),
      reclaim_({parts.loop, parts.worker, parts.scrubber, parts.prober, parts.directory, parts.quotas,
                parts.ledger, parts.custody, parts.notifier, parts.report,
                [this](const Region& region) { end_lifetime(region); }}),
      expiry_(parts.loop, {[this](RegionId id) { end(id); },
                           [this](RegionId id, std::chrono::nanoseconds left) {
                             const Region* region = parts_.directory.find(id);
                             if (region == nullptr) return;
                             schema::Notice notice;
                             notice.kind = schema::NoticeKind::expiring;
                             notice.id = id;
                             notice.name = region->record.name;
                             notice.within = left;
                             parts_.notifier.notify(*region, notice);
                           }}),
      connections_(parts.loop, [this](RegionId id) { end(id); }) {
  set_policy(policy_);
}

bool Regions::released(confine::GrantId grant) {
  const std::optional<std::uint32_t> holder = holder_of(grant);
  Region* region = parts_.directory.release(grant);
  if (region == nullptr) return false;
  reclaim_.released(*region, parts_.quotas.account_of(*holder));
  return true;
}

/// Its time has come: on the account of whoever owns it.
void Regions::end(RegionId id) {
  const Region* region = parts_.directory.find(id);
  if (region == nullptr) return;
  const Meter::Scope scope(parts_.loop.meter(), parts_.quotas.account_of(region->record.owner));
  reclaim_.revoke_in_background(id);
}

void Regions::set_subordinates(const policy::Subordinates& subordinates) {
  const std::uint64_t moved = parts_.quotas.set_subordinates(subordinates);
  if (moved > 0) parts_.report.charges_moved(moved);
  parts_.keeper.set_accounts(subordinates);
}

void Regions::set_policy(std::shared_ptr<const policy::Policy> policy) {
  policy_ = std::move(policy);
  policy_since_ = parts_.clock.unix_ns();
  connections_.set_grace(policy_->broker().grace);
  expiry_.set_warning(policy_->broker().expiring_notice);
  const PolicyLimits limits = limits_of(*policy_, parts_.pools);
  parts_.quotas.set_policy(limits.limits, limits.rules);
  for (const policy::QuotaRule& rule : policy_->quotas()) {
    if (rule.subject == SubjectKind::group && !rule.name.empty())
      parts_.quotas.name_group(rule.id, rule.name);
  }
}

/// The region of that name, if the caller may see it and the policy allows the verb on it.
Result<Region*> Regions::find_for(const Caller& caller, Verb verb, const std::string& name) {
  MAPCAP_TRY(schema::RegionName parsed, schema::RegionName::parse(name));
  Region* region = parts_.directory.find_or_latest(parsed.str());
  if (region == nullptr || !visible_to(*region, caller.subject)) {
    if (caller.judged != nullptr) caller.judged->hidden = region != nullptr;
    return no_such(parsed.str());
  }
  MAPCAP_TRY(const policy::Permit permit, policy_->authorize(caller.subject, action_on(*region, verb)));
  caller.allowed_by(permit);
  const bool manages = verb == Verb::renew || verb == Verb::revoke;
  if (manages && !may_manage(region->record, caller.subject)) {
    return failure(ErrorCode::denied,
                   "only the owner of region " + name + " (user " + std::to_string(region->record.owner) +
                       ") or an administrator may do that",
                   {{"rule", "owner"}});
  }
  return region;
}

bool Regions::visible_to(const Region& region, const policy::Subject& subject) const {
  if (may_manage(region.record, subject)) return true;
  if (bits_for(region.record, subject) == 0) return false;
  return policy_->allows(subject, action_on(region, Verb::list));
}

/// A region that exists is judged as what it is, so that a rule about revocable regions, say, holds for
/// opening them.
policy::Action Regions::action_on(const Region& region, Verb verb) {
  const RegionRecord& record = region.record;
  policy::Action action;
  action.verb = verb;
  action.name = record.name;
  action.pool = record.pool;
  action.size = record.size;
  action.seal = record.seal;
  action.cache = region.pool != nullptr ? region.pool->cache_of(record) : record.cache_effective;
  action.lifetime = Lifetime{record.lifetime, std::chrono::nanoseconds(record.ttl_ns)};
  return action;
}

void Regions::begin_lifetime(Region& region, const Caller& caller) {
  watch(region, caller.session);
  if (region.record.lifetime == LifetimeKind::connection)
    connections_.enrol(region.record.session, region.id());
  if (region.record.lifetime == LifetimeKind::ttl) {
    expiry_.schedule(region.id(), std::chrono::nanoseconds(region.record.ttl_ns));
  }
}

void Regions::watch(Region& region, SessionId session) {
  std::vector<SessionId>& watchers = region.watchers;
  if (session == 0 || std::find(watchers.begin(), watchers.end(), session) != watchers.end()) return;
  // Those that ended are forgotten when the room is full: it stays below twice the number of connections.
  if (watchers.size() == watchers.capacity())
    std::erase_if(watchers, [this](SessionId one) { return !parts_.notifier.connected(one); });
  watchers.push_back(session);
}

void Regions::end_lifetime(const Region& region) {
  connections_.forget(region.record.session, region.id());
  expiry_.forget(region.id());
}

}  // namespace mapcap::broker
