// Create: what the policy allows, filled in and carried out step by step.
#include <algorithm>
#include <limits>

#include "broker/ledger/strength.h"
#include "broker/regions.h"
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
using schema::Result;

namespace {

constexpr std::uint64_t kLargestRegion = std::numeric_limits<std::int64_t>::max();

/// "uc, wc"
template <typename Kind>
std::string words_of(const std::vector<Kind>& kinds) {
  std::string words;
  for (const Kind kind : kinds) words += (words.empty() ? "" : ", ") + std::string(to_string(kind));
  return words;
}

}  // namespace

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
  if (!ask.pool.empty()) {
    MAPCAP_TRY_VOID(policy_->find_pool(ask.pool));
  }
  schema::Error refused = schema::error(ErrorCode::not_found, "the policy has no pools");
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
    return schema::error(ErrorCode::unsupported, "pool " + facts.name + " makes no " +
                                                     std::string(to_string(seal)) + " regions, only " +
                                                     words_of(facts.seals));
  }
  const auto& modes = facts.cache_modes;
  const bool obtainable = std::find(modes.begin(), modes.end(), ask.cache.mode) != modes.end();
  if (!obtainable && ask.cache.required) {
    const std::string available = words_of(modes);
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

}  // namespace mapcap::broker
