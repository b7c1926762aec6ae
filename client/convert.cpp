#include "client/convert.h"

#include "client/raise.h"

namespace mapcap {

static_assert(static_cast<int>(Notice::Kind::revoked) == static_cast<int>(schema::NoticeKind::revoked));

schema::Create to_wire(const RegionSpec& spec, std::optional<Access> grant) {
  schema::Create create;
  create.name = spec.name;
  create.size = {spec.size};
  create.pool = spec.pool;
  create.cache = spec.cache;
  create.lifetime = spec.lifetime;
  create.mode = spec.mode;
  create.group = spec.group;
  create.seal = spec.seal;
  create.grant = grant;
  return create;
}

schema::EndpointSpec to_wire(const EndpointSpec& from) {
  return {from.id,     from.names, from.pools,  from.verbs, from.rights,
          from.limits, from.ttl,   from.on_end, from.labels};
}

EndpointInfo from_wire(const schema::EndpointInfo& from) {
  EndpointInfo to;
  const schema::EndpointSpec& spec = from.spec;
  to.spec = {spec.id,     spec.names, spec.pools,  spec.verbs, spec.rights,
             spec.limits, spec.ttl,   spec.on_end, spec.labels};
  to.maker = from.maker;
  to.principal = from.principal;
  to.state = from.state;
  to.directory = from.directory;
  to.created_unix = std::chrono::nanoseconds(from.created_unix_ns);
  if (from.remaining_ns >= 0) to.remaining = std::chrono::nanoseconds(from.remaining_ns);
  to.bytes = from.bytes;
  to.regions = from.regions;
  to.grants = from.grants;
  to.connections = from.connections;
  return to;
}

RegionInfo from_wire(const schema::RegionInfo& from) {
  RegionInfo to;
  to.id = from.id.value;
  to.name = from.name;
  to.pool = from.pool;
  to.owner = from.owner;
  to.group = from.group;
  to.mode = from.mode;
  to.size = from.size.value;
  to.cache = from.cache;
  to.durability = from.durability;
  to.confinement = from.confinement;
  to.seal = from.seal;
  to.lifetime = from.lifetime;
  to.created_unix = std::chrono::nanoseconds(from.created_unix_ns);
  if (from.remaining_ns >= 0) to.remaining = std::chrono::nanoseconds(from.remaining_ns);
  to.state = from.state;
  to.grants = from.grants;
  to.held = from.held.value;
  to.bad_blocks = from.bad_blocks;
  to.draining = from.draining;
  if (from.published_unix_ns) to.published_unix = std::chrono::nanoseconds(*from.published_unix_ns);
  to.endpoint = from.endpoint;
  return to;
}

RegionDetails from_wire(const schema::Shown& shown) {
  RegionDetails details{from_wire(shown.region), {}};
  for (const schema::Holder& holder : shown.holders)
    details.holders.push_back({holder.uid, holder.rights, holder.count, holder.endpoint});
  return details;
}

PoolInfo from_wire(const schema::PoolInfo& from) {
  PoolInfo to;
  to.name = from.name;
  to.backing = from.backing;
  to.capacity = from.capacity.value;
  to.used = from.used.value;
  to.regions = from.regions;
  to.granule = from.granule.value;
  to.confinement = from.confinement;
  to.confinement_reason = from.confinement_reason;
  to.seals = from.seals;
  to.cache_modes = from.cache_modes;
  to.cache_verified = from.cache_verified;
  to.durability = from.durability;
  return to;
}

QuotaInfo from_wire(const schema::QuotaInfo& from) {
  QuotaInfo to;
  to.slot = {from.subject, from.id, from.pool};
  to.limits = from.limits;
  to.bytes = from.bytes;
  to.regions = from.regions;
  to.grants = from.grants;
  to.connections = from.connections;
  to.overridden = from.overridden;
  to.endpoint = from.endpoint;
  return to;
}

BrokerStatus from_wire(const schema::Status& from) {
  BrokerStatus to;
  to.broker = from.broker;
  to.pid = from.pid;
  to.started_unix = std::chrono::nanoseconds(from.started_unix_ns);
  to.policy = from.policy;
  to.policy_loaded_unix = std::chrono::nanoseconds(from.policy_loaded_unix_ns);
  for (const schema::StateCount& one : from.regions) to.regions.push_back({one.state, one.count});
  to.unguarded = from.unguarded;
  for (const schema::UnguardedRegion& one : from.unguarded_regions)
    to.unguarded_regions.push_back({one.id.value, one.name, one.owner});
  to.keeper = {from.keeper.pid,      from.keeper.serving,  from.keeper.adopted, from.keeper.held,
               from.keeper.replaced, from.keeper.last_end, from.keeper.blanks,  from.keeper.blanks_used};
  to.ledger_trouble = from.ledger_trouble;
  if (from.store) to.store = StoreUse{from.store->stored, from.store->without_place, from.store->most};
  to.connections = from.connections;
  to.max_connections = from.max_connections;
  for (const schema::PoolConfinement& one : from.pools) to.pools.push_back({one.pool, one.confinement});
  return to;
}

ReloadOutcome from_wire(schema::Reloaded from) {
  ReloadOutcome to{std::move(from.file), from.in_force, {}, {}, from.more};
  for (schema::PolicyProblem& problem : from.problems)
    to.problems.push_back({problem.line, problem.column, problem.warning, std::move(problem.message)});
  for (schema::PolicyChange& change : from.changes) {
    to.changes.push_back(
        {std::move(change.what), std::move(change.whom), std::move(change.place), std::move(change.detail)});
  }
  return to;
}

PolicyAnswer from_wire(schema::Explained from) {
  PolicyAnswer to;
  if (from.refusal) to.refusal.emplace(as_error(*from.refusal));
  to.policy = std::move(from.policy);
  to.user = std::move(from.user);
  to.rule = std::move(from.rule);
  if (from.judged) to.judged = from_wire(*from.judged);
  for (schema::RuleSaid& rule : from.rules) {
    to.rules.push_back(
        {std::move(rule.place), rule.denies, std::move(rule.subject), rule.applies, std::move(rule.why)});
  }
  to.more = from.more;
  return to;
}

std::optional<Notice> from_wire(const schema::Notice& from) {
  if (from.kind == schema::NoticeKind::progress) return std::nullopt;
  Notice to;
  to.kind = static_cast<Notice::Kind>(from.kind);
  to.region = from.id.value;
  to.name = from.name;
  to.within = from.within;
  return to;
}

}  // namespace mapcap
