#include "broker/regions.h"

#include <algorithm>
#include <limits>

#include "schema/codec.h"
#include "schema/region_name.h"

namespace mapcap::broker {

using namespace std::chrono_literals;
using ledger::RegionRecord;
using policy::Verb;
using schema::Access;
using schema::ByteCount;
using schema::ErrorCode;
using schema::LifetimeKind;
using schema::RegionId;
using schema::RegionState;
using schema::Result;

namespace {

/// Pauses between attempts to issue while a keeper is being replaced: 1 ms, doubled up to 1.02 s, 2 s in all.
constexpr std::chrono::nanoseconds kFirstRetry = 1ms;
constexpr std::chrono::nanoseconds kLastRetry = 2s;

constexpr std::uint64_t kLargestRegion = std::numeric_limits<std::int64_t>::max();

ledger::Strength strength_of(const RegionRecord& record) {
  return record.volatile_memory ? ledger::Strength::process : ledger::Strength::power;
}

std::string durability_text(const schema::Durability& durability) {
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
  return subject.uid() == record.owner || subject.uid() == 0;
}

Result<void> check_mode(const RegionRecord& record, const policy::Subject& subject, Access rights) {
  if (subject.uid() == 0) return schema::ok();
  const std::uint32_t needed = rights == Access::read_write ? 6U : 4U;
  if ((bits_for(record, subject) & needed) == needed) return schema::ok();
  return schema::error(ErrorCode::denied,
                       "the mode " + schema::format_mode(record.mode) + " of region " + record.name +
                           " (owner " + std::to_string(record.owner) + ", group " +
                           std::to_string(record.group) + ") does not give user " +
                           std::to_string(subject.uid()) + " a " + std::string(to_string(rights)) +
                           " grant; its owner can re-create it with another --mode",
                       {{"rule", "mode"}, {"mode", schema::format_mode(record.mode)}});
}

schema::Error no_such(const std::string& name) {
  return schema::error(ErrorCode::not_found, "there is no region named " + name + " that you may see",
                       {{"name", name}});
}

/// `invalid`: not attached, because the keeper was replaced after the region had been attached to the one
/// before. `io`: its socket was reset before its end was noticed.
bool keeper_is_changing(const schema::Error& error) {
  return error.code == ErrorCode::unavailable || error.code == ErrorCode::invalid ||
         error.code == ErrorCode::io;
}

std::string cursor_of(const Region& region) {
  return std::to_string(region.id().value) + ":" + region.record.name;
}

Result<Directory::Position> position_of(const std::string& cursor) {
  if (cursor.empty()) return Directory::Position{};
  const std::size_t colon = cursor.find(':');
  if (colon == 0 || colon == std::string::npos || colon > 20 ||
      cursor.find_first_not_of("0123456789") != colon) {
    return schema::error(ErrorCode::invalid, "the list cursor is not one that this broker gave");
  }
  return Directory::Position{cursor.substr(colon + 1), std::strtoull(cursor.c_str(), nullptr, 10)};
}

}  // namespace

// ---- create
// ------------------------------------------------------------------------------------------------

/// A create that the policy allows, with everything that was left open filled in.
struct Regions::Plan {
  ServedPool* pool = nullptr;
  RegionRecord record;
};

Result<Regions::Plan> Regions::plan_create(const Caller& caller, const schema::Create& ask) const {
  const policy::Subject& subject = caller.subject;
  MAPCAP_TRY(schema::RegionName name, schema::RegionName::parse(ask.name));
  if (ask.size.value == 0 || ask.size.value > kLargestRegion) {
    return schema::error(ErrorCode::invalid,
                         "a region has 1 to 2^63-1 bytes, not " + std::to_string(ask.size.value),
                         {{"asked", std::to_string(ask.size.value)}});
  }
  if ((ask.mode & ~0666U) != 0) {
    return schema::error(ErrorCode::invalid, "the mode has only r and w bits, 0000 to 0666");
  }
  if (ask.lifetime.kind == LifetimeKind::ttl && ask.lifetime.ttl < 1s) {
    return schema::error(ErrorCode::invalid, "a ttl is at least 1 s");
  }

  policy::Action action;
  action.verb = Verb::create;
  action.name = name.str();
  action.size = ask.size;
  action.cache = ask.cache.mode;
  action.lifetime = ask.lifetime;
  action.seal = ask.seal;
  action.rights = ask.grant;
  Plan plan;
  schema::Error refused =
      schema::error(ErrorCode::not_found, "the policy has no pool named " + ask.pool, {{"pool", ask.pool}});
  for (const auto& served : parts_.pools) {
    if (!ask.pool.empty() && served->facts().name != ask.pool) continue;
    action.pool = served->facts().name;
    auto permit = policy_->authorize(subject, action);
    if (permit) {
      plan.pool = served.get();
      break;
    }
    refused = permit.error();
  }
  if (plan.pool == nullptr) return refused;
  const pool::Facts& facts = plan.pool->facts();

  const std::uint64_t granule = facts.granule.value;
  if (ask.size.value > kLargestRegion - granule) {
    return schema::error(ErrorCode::pool_full,
                         "pool " + facts.name + " has " + schema::format_bytes(facts.capacity) + ", not " +
                             schema::format_bytes(ask.size),
                         {{"slot", "pool " + facts.name},
                          {"used", std::to_string(parts_.quotas.pool_used(facts.name))},
                          {"limit", std::to_string(facts.capacity.value)},
                          {"asked", std::to_string(ask.size.value)}});
  }
  const std::uint32_t group = ask.group.value_or(subject.gid());
  if (subject.uid() != 0 && !subject.in_group(group)) {
    return schema::error(ErrorCode::denied, "you are not a member of group " + std::to_string(group));
  }
  const schema::SealKind seal = ask.seal.value_or(facts.seals.front());
  if (std::find(facts.seals.begin(), facts.seals.end(), seal) == facts.seals.end()) {
    return schema::error(ErrorCode::unsupported,
                         "pool " + facts.name + " makes no " + std::string(to_string(seal)) + " regions");
  }
  const auto& modes = facts.cache_modes;
  const bool obtainable = std::find(modes.begin(), modes.end(), ask.cache.mode) != modes.end();
  if (!obtainable && ask.cache.required) {
    std::string available;
    for (schema::CacheMode mode : modes)
      available += (available.empty() ? "" : ", ") + std::string(to_string(mode));
    return schema::error(ErrorCode::cache_mode,
                         "pool " + facts.name + " cannot give cache mode " +
                             std::string(to_string(ask.cache.mode)) + "; it can give " + available,
                         {{"asked", std::string(to_string(ask.cache.mode))}, {"available", available}});
  }

  RegionRecord& record = plan.record;
  record.name = name.str();
  record.pool = facts.name;
  record.owner = subject.uid();
  record.group = group;
  record.mode = ask.mode;
  record.cache = ask.cache;
  record.cache_effective = obtainable ? ask.cache.mode : modes.front();
  MAPCAP_TRY(record.size, plan.pool->pool->size_for(ask.size, record.cache_effective));
  record.seal = seal;
  record.lifetime = ask.lifetime.kind;
  record.volatile_memory = facts.volatile_memory;
  record.boot = parts_.boot;
  record.created_unix_ns = parts_.clock.unix_ns();
  if (ask.lifetime.kind == LifetimeKind::ttl)
    lifetime::start_ttl(record, ask.lifetime.ttl, parts_.boot, parts_.clock);
  if (ask.lifetime.kind == LifetimeKind::connection) record.session = caller.token;
  return plan;
}

Task<Result<Delivery>> Regions::create(Caller caller, schema::Create ask) {
  MAPCAP_CO_TRY(Plan plan, plan_create(caller, ask));
  RegionRecord& record = plan.record;
  pool::Pool& pool = *plan.pool->pool;
  MAPCAP_CO_TRY(Directory::Reservation reservation, parts_.directory.reserve(record.name));
  const Region* lost = parts_.directory.find(record.name);
  const RegionId lost_id = lost != nullptr ? lost->id() : RegionId{};

  const Amount cost{record.size.value, 1, 0, 0};
  MAPCAP_CO_TRY(Charge charge, parts_.quotas.reserve({record.owner, record.group, record.pool}, cost));
  record.id = parts_.ledger.next_id();

  const pool::Carving carving{record.id, record.size, record.seal, record.cache_effective};
  Result<pool::Extent> carved = schema::error(ErrorCode::io, "not carved");
  if (pool.quick()) {
    carved = pool.carve(carving, nullptr);
  } else {
    auto tell = [this, session = caller.session, request = caller.request](ByteCount done, ByteCount total) {
      parts_.loop.post([this, session, request, done, total] {
        schema::Notice notice;
        notice.kind = schema::NoticeKind::progress;
        notice.request = request;
        notice.done = done;
        notice.total = total;
        parts_.notifier.notify(session, notice);
      });
    };
    auto carve = [&pool, carving, tell] { return pool.carve(carving, tell); };
    carved = co_await parts_.worker.run(carve);
  }
  MAPCAP_CO_TRY(pool::Extent extent, std::move(carved));
  record.extent = extent.word();

  Undo let_go;
  if (record.volatile_memory) {
    MAPCAP_CO_TRY_VOID(co_await parts_.custody.hold(record.id, extent.fd()));
    let_go = Undo([this, id = record.id] { parts_.custody.drop(id); });
  }
  MAPCAP_CO_TRY_VOID(co_await parts_.ledger.put(record, strength_of(record)));
  let_go.disarm();

  auto fresh = std::make_unique<Region>(parts_.loop);
  fresh->record = record;
  fresh->pool = plan.pool;
  fresh->extent = std::move(extent);
  fresh->extent.keep();
  fresh->charge = std::move(charge);
  Region& region = parts_.directory.add(std::move(fresh));
  Delivery delivery;
  delivery.undo = undo_create(region.id());
  if (lost_id.value != 0) reclaim_.revoke_in_background(lost_id);
  begin_lifetime(region, caller);

  schema::Granted granted;
  granted.rights = ask.grant.value_or(Access::read_only);
  if (ask.grant) {
    Result<confine::Issued> issued = co_await issue(record.id, caller.subject, *ask.grant);
    if (!issued) {
      // Undone before the refusal goes out, so that the name is free when the client asks again.
      delivery.undo.disarm();
      (void)co_await reclaim_.revoke(record.id, {});
      co_return issued.error();
    }
    delivery.fd = std::move(issued.value().fd);
    granted.with_fd = true;
  }
  granted.region = describe(*parts_.directory.find(record.id));
  delivery.body = std::move(granted);
  co_return delivery;
}

Undo Regions::undo_create(RegionId id) {
  return Undo([this, id] { reclaim_.revoke_in_background(id); });
}

// ---- open
// --------------------------------------------------------------------------------------------------

Task<Result<Delivery>> Regions::open(Caller caller, schema::Open ask) {
  MAPCAP_CO_TRY(Region * region, find_for(caller, Verb::open, ask.name));
  policy::Action action;
  action.verb = Verb::open;
  action.name = region->record.name;
  action.pool = region->record.pool;
  action.rights = ask.rights;
  MAPCAP_CO_TRY_VOID(policy_->authorize(caller.subject, action));
  MAPCAP_CO_TRY_VOID(check_mode(region->record, caller.subject, ask.rights));
  const RegionId id = region->id();
  MAPCAP_CO_TRY(confine::Issued issued, co_await issue(id, caller.subject, ask.rights));

  region = parts_.directory.find(id);
  watch(*region, caller.session);
  Delivery delivery;
  delivery.fd = std::move(issued.fd);
  schema::Granted granted;
  granted.region = describe(*region);
  granted.rights = ask.rights;
  granted.with_fd = true;
  delivery.body = std::move(granted);
  co_return delivery;
}

/// Charges, confines and tracks one grant. While it is under way the region's memory cannot go.
Task<Result<confine::Issued>> Regions::issue(RegionId id, const policy::Subject& holder, Access rights) {
  Region* region = parts_.directory.find(id);
  if (region->record.state == RegionState::lost) {
    co_return schema::error(
        ErrorCode::lost,
        "region " + region->record.name + " was in memory that is gone; revoke it and create it again");
  }
  if (region->record.state != RegionState::live) {
    co_return schema::error(ErrorCode::busy, "region " + region->record.name + " is being taken away (" +
                                                 std::string(to_string(region->record.state)) + ")");
  }
  const std::uint32_t uid = holder.uid();
  const Amount one{0, 0, 1, 0};
  MAPCAP_CO_TRY(Charge charge, parts_.quotas.reserve({uid, holder.gid(), region->record.pool}, one));
  confine::Confiner& confiner = *region->pool->confiner;
  Result<void> attached_first = confiner.attach(id, region->extent.fd(), region->record.size);
  if (!attached_first && !keeper_is_changing(attached_first.error())) co_return attached_first.error();

  confine::Label label;
  label.name = region->record.name;
  label.size = region->record.size;
  label.rights = rights;
  label.cache_requested = to_string(region->record.cache.mode);
  label.cache_effective = to_string(region->record.cache_effective);
  label.durability = durability_text(region->pool->facts().durability);
  label.confinement = to_string(confiner.kind());
  label.holder = {uid, holder.gid()};
  // A keeper that dies is replaced within milliseconds, and the new one issues: nobody need hear of it.
  region->pool->pool->granting(region->extent);
  ++region->issuing;
  Result<confine::Issued> issued = co_await confiner.issue(id, label);
  for (auto pause = kFirstRetry; !issued && keeper_is_changing(issued.error()) && pause < kLastRetry;
       pause *= 2) {
    co_await parts_.loop.sleep(pause);
    region = parts_.directory.find(id);
    if (region->record.state != RegionState::live) break;
    Result<void> attached = confiner.attach(id, region->extent.fd(), region->record.size);
    if (attached) issued = co_await confiner.issue(id, label);
  }
  region = parts_.directory.find(id);
  --region->issuing;
  region->changed->notify();
  if (!issued) co_return issued.error();
  parts_.directory.track(*region, Grant{issued.value().grant, rights, uid, std::move(charge)});
  if (region->record.state != RegionState::live) {
    co_return schema::error(ErrorCode::busy, "region " + region->record.name + " was taken away meanwhile");
  }
  co_return issued;
}

// ---- list, show
// --------------------------------------------------------------------------------------------

Task<Result<Delivery>> Regions::list(Caller caller, schema::List ask) {
  MAPCAP_CO_TRY(Directory::Position position, position_of(ask.cursor));
  // Names lie in order: all that match begin with what stands before the glob's first wildcard.
  const std::string prefix = ask.glob.substr(0, ask.glob.find_first_of("*?"));
  position = std::max(position, Directory::Position{prefix, 0});
  constexpr std::uint32_t kPage = schema::kMaxPacket / schema::kRegionInfoBytes - 8;
  constexpr std::uint32_t kLookAt = 4096;  // Regions looked at before others get their turn.
  const std::uint32_t limit = ask.limit == 0 ? kPage : std::min(ask.limit, kPage);
  schema::Listing listing;
  // A page ends with a region that the caller may see: the cursor must not name another.
  for (bool more = true; more;) {
    std::uint32_t looked_at = 0;
    more = false;
    parts_.directory.visit_from(position, [&](const Region& region) {
      if (!region.record.name.starts_with(prefix)) return false;
      position = {region.record.name, region.id().value};
      if ((ask.glob.empty() || schema::glob_match(ask.glob, region.record.name)) &&
          visible_to(region, caller.subject)) {
        listing.regions.push_back(describe(region));
        if (listing.regions.size() == limit) {
          listing.next = cursor_of(region);
          return false;
        }
      }
      more = ++looked_at == kLookAt;
      return !more;
    });
    if (more) co_await parts_.loop.yield();
  }
  Delivery delivery;
  delivery.body = std::move(listing);
  co_return delivery;
}

Result<Delivery> Regions::show(Caller caller, const schema::Show& ask) {
  MAPCAP_TRY(Region * region, find_for(caller, Verb::show, ask.name));
  schema::Shown shown;
  shown.region = describe(*region);
  for (const Grant& grant : region->grants) {
    auto same = std::find_if(shown.holders.begin(), shown.holders.end(), [&](const schema::Holder& holder) {
      return holder.uid == grant.holder && holder.rights == grant.rights;
    });
    if (same != shown.holders.end()) {
      ++same->count;
    } else if (shown.holders.size() < 1000) {
      shown.holders.push_back({grant.holder, grant.rights, 1});
    }
  }
  Delivery delivery;
  delivery.body = std::move(shown);
  return delivery;
}

// ---- renew, revoke
// -----------------------------------------------------------------------------------------

Task<Result<Delivery>> Regions::renew(Caller caller, schema::Renew ask) {
  MAPCAP_CO_TRY(Region * region, find_for(caller, Verb::renew, ask.name));
  if (region->record.state != RegionState::live) {
    co_return schema::error(ErrorCode::busy,
                            "region " + ask.name + " is " + std::string(to_string(region->record.state)));
  }
  if (region->record.lifetime != LifetimeKind::ttl) {
    co_return schema::error(ErrorCode::invalid, "region " + ask.name + " has the lifetime " +
                                                    std::string(to_string(region->record.lifetime)) +
                                                    ": only a ttl can be renewed");
  }
  if (ask.ttl < 1s) co_return schema::error(ErrorCode::invalid, "a ttl is at least 1 s");
  policy::Action action;
  action.verb = Verb::renew;
  action.name = region->record.name;
  action.pool = region->record.pool;
  action.lifetime = schema::Lifetime{LifetimeKind::ttl, ask.ttl};
  MAPCAP_CO_TRY_VOID(policy_->authorize(caller.subject, action));

  RegionRecord renewed = region->record;
  lifetime::start_ttl(renewed, ask.ttl, parts_.boot, parts_.clock);
  const RegionId id = region->id();
  MAPCAP_CO_TRY_VOID(co_await parts_.ledger.put(renewed, strength_of(renewed)));
  region = parts_.directory.find(id);
  if (region == nullptr || region->record.state != RegionState::live) {
    co_return schema::error(ErrorCode::busy, "region " + ask.name + " ended meanwhile");
  }
  region->record = renewed;
  expiry_.schedule(id, ask.ttl);
  Delivery delivery;
  delivery.body = schema::Renewed{describe(*region)};
  co_return delivery;
}

Task<Result<Delivery>> Regions::revoke(Caller caller, schema::Revoke ask) {
  MAPCAP_CO_TRY(Region * region, find_for(caller, Verb::revoke, ask.name));
  MAPCAP_CO_TRY(schema::Revoked revoked, co_await reclaim_.revoke(region->id(), {ask.drain, ask.within}));
  Delivery delivery;
  delivery.body = revoked;
  co_return delivery;
}

// ---- common ground
// -----------------------------------------------------------------------------------------

Regions::Regions(Parts parts, std::shared_ptr<const policy::Policy> policy)
    : parts_(parts),
      policy_(std::move(policy)),
      reclaim_({parts.loop, parts.worker, parts.scrubber, parts.prober, parts.directory, parts.ledger,
                parts.custody, parts.notifier, parts.report,
                [this](const Region& region) { end_lifetime(region); }}),
      expiry_(parts.loop, parts.clock,
              {[this](RegionId id) { reclaim_.revoke_in_background(id); },
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
      connections_(parts.loop, [this](RegionId id) { reclaim_.revoke_in_background(id); }) {
  set_policy(policy_);
}

void Regions::set_policy(std::shared_ptr<const policy::Policy> policy) {
  policy_ = std::move(policy);
  connections_.set_grace(policy_->broker().grace);
  expiry_.set_warning(policy_->broker().expiring_notice);
  std::vector<ledger::QuotaRecord> limits;
  for (const policy::QuotaRule& rule : policy_->quotas())
    limits.push_back({rule.subject, rule.id, rule.pool, rule.limits});
  parts_.quotas.set_policy(limits);
  parts_.quotas.set_subordinates(policy::Subordinates::of_machine());
}

/// The region of that name, if the caller may see it and the policy allows the verb on it.
Result<Region*> Regions::find_for(const Caller& caller, Verb verb, const std::string& name) {
  MAPCAP_TRY(schema::RegionName parsed, schema::RegionName::parse(name));
  Region* region = parts_.directory.find_or_latest(parsed.str());
  if (region == nullptr || !visible_to(*region, caller.subject)) return no_such(parsed.str());
  policy::Action action;
  action.verb = verb;
  action.name = parsed.str();
  action.pool = region->record.pool;
  MAPCAP_TRY_VOID(policy_->authorize(caller.subject, action));
  const bool manages = verb == Verb::renew || verb == Verb::revoke;
  if (manages && !may_manage(region->record, caller.subject)) {
    return schema::error(ErrorCode::denied,
                         "only the owner of region " + name + " (user " +
                             std::to_string(region->record.owner) + ") or root may do that",
                         {{"rule", "owner"}});
  }
  return region;
}

bool Regions::visible_to(const Region& region, const policy::Subject& subject) const {
  if (may_manage(region.record, subject)) return true;
  if (bits_for(region.record, subject) == 0) return false;
  policy::Action action;
  action.verb = Verb::list;
  action.name = region.record.name;
  action.pool = region.record.pool;
  return policy_->allows(subject, action);
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

schema::RegionInfo Regions::describe(const Region& region) const {
  const RegionRecord& record = region.record;
  schema::RegionInfo info;
  info.id = record.id;
  info.name = record.name;
  info.pool = record.pool;
  info.owner = record.owner;
  info.group = record.group;
  info.mode = record.mode;
  info.size = record.size;
  info.seal = record.seal;
  info.lifetime = {record.lifetime, std::chrono::nanoseconds(record.ttl_ns)};
  info.created_unix_ns = record.created_unix_ns;
  info.state = record.state;
  info.grants = static_cast<std::uint32_t>(region.grants.size());
  info.held = {region.charge.amount().bytes};
  info.cache = {record.cache.mode, record.cache.required, record.cache_effective,
                schema::CacheMechanism::page_attribute, false};
  if (region.pool != nullptr) {
    const pool::Facts& facts = region.pool->facts();
    info.cache.mechanism = facts.cache_mechanism;
    info.cache.verified = facts.cache_verified;
    info.durability = facts.durability;
    info.confinement = region.pool->confiner->kind();
    if (!region.extent.empty()) info.bad_blocks = region.pool->pool->bad_blocks(region.extent);
  }
  if (record.lifetime == LifetimeKind::ttl) {
    info.remaining_ns = std::max<std::int64_t>(record.expires_boot_ns - parts_.clock.boot_ns(), 0);
  }
  return info;
}

}  // namespace mapcap::broker
