// Open, renew and revoke, and what the verbs share. create.cpp, list.cpp and publish.cpp are the others.
#include "broker/regions/regions.h"

#include <algorithm>
#include <optional>
#include <tuple>

#include "broker/books/quota_limits.h"
#include "broker/ledger/strength.h"
#include "broker/regions/state_checks.h"
#include "policy/judge.h"
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

/// What a renewal changes.
using Ttl = std::tuple<std::uint64_t, std::int64_t, std::int64_t, ledger::BootId>;

Ttl ttl_of(const RegionRecord& record) {
  return {record.ttl_ns, record.expires_boot_ns, record.expires_unix_ns, record.boot};
}
void set_ttl(RegionRecord& record, const Ttl& ttl) {
  std::tie(record.ttl_ns, record.expires_boot_ns, record.expires_unix_ns, record.boot) = ttl;
}

}  // namespace

// ---- open

Task<Result<Delivery>> Regions::open(Caller caller, schema::Open ask) {
  MAPCAP_CO_TRY(Region * region, find_for(caller, {Verb::open, ask.rights}, ask.name));
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
Task<Result<confine::Issued>> Regions::issue(RegionId id, const policy::Subject& holder, Access rights,
                                             confine::Blank* blank) {
  Region* region = parts_.directory.find(id);
  MAPCAP_CO_TRY_VOID(check_grantable(*region));
  if (rights == Access::read_write) {
    MAPCAP_CO_TRY_VOID(check_writable(*region));
  }
  const std::uint32_t uid = holder.uid();
  const Amount one{0, 0, 1, 0};
  MAPCAP_CO_TRY(Charge charge, parts_.quotas.reserve(
                                   {uid, holder.shared_groups(), region->record.pool, holder.user()}, one));
  confine::Confiner& confiner = *region->pool->confiner;

  confine::Label label = label_of(region->record, *region->pool, holder, rights);
  label.published_unix_ns = region->published.value_or(0);
  const bool says_published = region->published.has_value();
  region->touched = true;
  const bool first = region->pool->pool->granting(region->extent);
  const std::uint32_t writable = rights == Access::read_write ? 1 : 0;
  ++region->issuing;
  region->issuing_writable += writable;
  std::optional<confine::Issued> ready;
  if (blank != nullptr) ready = confiner.issue_blank(*blank);
  Result<confine::Issued> issued = failure(ErrorCode::unavailable, "not issued");
  if (ready) {
    issued = std::move(*ready);
  } else {
    issued = co_await confiner.issue(id, std::move(label), region->extent.fd());
  }
  region = parts_.directory.find(id);
  --region->issuing;
  region->issuing_writable -= writable;
  region->changed->notify();
  // Nobody else may have got one meanwhile.
  if (!issued && first && region->issuing == 0 && region->grants.empty() && !region->untracked)
    region->pool->pool->never_granted(region->extent);
  if (!issued) co_return issued.error();
  parts_.directory.track(*region,
                         Grant{issued.value().grant, rights, uid, std::move(charge), holder.shared_label()});
  if (region->record.state != RegionState::live) {
    co_return failure(ErrorCode::busy, "region " + region->record.name + " was taken away meanwhile");
  }
  // It was published while the grant was made: nobody gets one that says otherwise.
  if (!says_published && region->published) co_await confiner.tell_published(id, *region->published);
  co_return issued;
}

confine::Label Regions::label_of(const RegionRecord& record, const ServedPool& pool,
                                 const policy::Subject& holder, Access rights) {
  const pool::Facts& facts = pool.facts();
  confine::Label label;
  label.name = record.name;
  label.size = record.size;
  label.rights = rights;
  label.cache_requested = to_string(record.cache.mode);
  label.cache_effective = to_string(pool.cache_of(record));
  if (facts.cache_mechanism != CacheMechanism::page_attribute)
    label.cache_effective += " " + std::string(to_string(facts.cache_mechanism));
  label.durability = durability_text(facts.durability);
  label.confinement = to_string(pool.confiner->kind());
  label.holder = {holder.uid(), holder.gid()};
  return label;
}

// ---- renew, revoke

Task<Result<Delivery>> Regions::renew(Caller caller, schema::Renew ask) {
  MAPCAP_CO_TRY(Region * region, find_for(caller, {Verb::renew, {}, ask.ttl}, ask.name));
  MAPCAP_CO_TRY_VOID(check_renewable(*region));

  // At once, so that whatever else is recorded meanwhile (a publish) has it too, and it has that.
  const RegionId id = region->id();
  const Ttl before = ttl_of(region->record);
  start_ttl(region->record, ask.ttl, parts_.boot, parts_.clock);
  const Ttl renewed = ttl_of(region->record);
  const RegionRecord record = region->record;
  Result<void> written = co_await parts_.ledger.put(record, strength_of(record));
  region = parts_.directory.find(id);
  if (!written) {
    if (region != nullptr && ttl_of(region->record) == renewed) set_ttl(region->record, before);
    co_return written.error();
  }
  if (region == nullptr || region->record.state != RegionState::live) {
    co_return failure(ErrorCode::busy, "region " + ask.name + " ended meanwhile");
  }
  expiry_.schedule(id, ask.ttl);
  schema::Renewed answer{describe(*region)};
  co_await tell_damage({&answer.region, 1});
  co_return reply_of(std::move(answer));
}

Result<void> Regions::check_drains(std::uint32_t account) const {
  const std::size_t most = policy_->broker().max_connections_per_user;
  if (drains_.of(account) < most) return ok();
  return failure(
      ErrorCode::over_quota,
      "user " + std::to_string(account) + " has " + std::to_string(most) +
          " revokes and publishes that wait for holders, as many as he may have connections; end some by "
          "revoking their regions without --drain, or publishing them without --within",
      {{"limit", std::to_string(most)}, {"used", std::to_string(drains_.of(account))}});
}

Task<Result<Delivery>> Regions::revoke(Caller caller, schema::Revoke ask) {
  MAPCAP_CO_TRY(Region * region, find_for(caller, {Verb::revoke}, ask.name));
  std::optional<Drains::Place> place;
  if (ask.drain) {
    const std::uint32_t account =
        caller.subject.administrator()
            ? policy::kAdministrators  // None of theirs for whoever is uid 0 without being one.
            : parts_.quotas.account_of(caller.subject.uid());
    MAPCAP_CO_TRY_VOID(check_drains(account));
    place.emplace(drains_, account);
  }
  MAPCAP_CO_TRY(Revoked revoked, co_await reclaim_.revoke(region->id(), {ask.drain, ask.within}));
  co_return reply_of(revoked);
}

Task<Result<Delivery>> Regions::goodbye(Caller caller) {
  const std::set<RegionId> ending = connections_.take_regions(caller.token);
  for (const RegionId id : ending) {
    const Result<Revoked> ended = co_await reclaim_.revoke(id, {});
    // A ledger that refuses has changed nothing: the grace period, which tries again, is next.
    const Region* still = parts_.directory.find(id);
    const bool lives = still != nullptr && still->record.state == RegionState::live;
    if (!ended && lives) connections_.enrol(caller.token, id);
  }
  co_return reply_of(schema::Done{});
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
  if (policy_changed_) policy_changed_();
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
  if (policy_changed_) policy_changed_();
}

Result<void> Regions::authorize(const Caller& caller, const policy::Action& action) const {
  MAPCAP_TRY(const policy::Permit permit, policy_->authorize(caller.subject, action));
  caller.allowed_by(permit);
  return ok();
}

Result<void> Regions::authorize(const Caller& caller, Verb verb) const {
  return authorize(caller, policy::action_of(verb));
}

bool Regions::allows(const Caller& caller, Verb verb) const {
  return policy_->allows(caller.subject, policy::action_of(verb));
}

/// The region of that name, if the caller may do that with it.
Result<Region*> Regions::find_for(const Caller& caller, const policy::Wish& wish, const std::string& name) {
  MAPCAP_TRY(schema::RegionName parsed, schema::RegionName::parse(name));
  Region* region = parts_.directory.find_or_latest(parsed.str());
  if (region == nullptr) return policy::no_such_region(parsed.str());
  const policy::Existing there = as_judged(*region);
  if (!policy::may_reach(*policy_, caller.subject, there, wish.verb)) {
    if (caller.judged != nullptr) caller.judged->hidden = true;
    return policy::no_such_region(parsed.str());
  }
  MAPCAP_TRY(const policy::Permit permit, policy::judge(*policy_, caller.subject, there, wish));
  caller.allowed_by(permit);
  return region;
}

bool Regions::visible_to(const Region& region, const policy::Subject& subject) const {
  return policy::may_see(*policy_, subject, as_judged(region));
}

/// A region that exists is judged as what it is, so that a rule about revocable regions, say, holds for
/// opening them.
policy::Existing Regions::as_judged(const Region& region) {
  const RegionRecord& record = region.record;
  policy::Existing existing;
  existing.name = record.name;
  existing.pool = record.pool;
  existing.owner = record.owner;
  existing.group = record.group;
  existing.mode = record.mode;
  existing.size = record.size;
  existing.seal = record.seal;
  existing.cache = region.pool != nullptr ? region.pool->cache_of(record) : record.cache_effective;
  existing.lifetime = Lifetime{record.lifetime, std::chrono::nanoseconds(record.ttl_ns)};
  existing.published = region.published.has_value();
  return existing;
}

std::uint64_t Regions::regions_in(const std::string& pool) {
  std::uint64_t count = 0;
  parts_.directory.visit_all([&](const Region& region) { count += region.record.pool == pool ? 1 : 0; });
  return count;
}

pool::Recorded Regions::recorded() {
  pool::Recorded recorded{{}, records_complete_};
  parts_.directory.visit_all([&](const Region& region) {
    if (!region.record.volatile_memory) recorded.words.insert(region.record.extent);
  });
  return recorded;
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
