#include "client/convert.h"

namespace mapcap {
namespace {

// One line for each enumeration: both ends share their numbers, so those in between do.
static_assert(static_cast<int>(Notice::Kind::revoked) == static_cast<int>(schema::NoticeKind::revoked));

template <typename To, typename From>
To same(From from) {
  return static_cast<To>(from);
}

Durability from_wire(const Durability& durability) {
  return {same<Granularity>(durability.granularity), same<PersistenceDomain>(durability.domain),
          durability.map_sync};
}

CacheStatus from_wire(const CacheStatus& cache) {
  return {same<CacheMode>(cache.requested), cache.required, same<CacheMode>(cache.effective),
          same<CacheMechanism>(cache.mechanism), cache.verified};
}

template <typename To, typename From>
std::vector<To> all(const std::vector<From>& from) {
  std::vector<To> to;
  to.reserve(from.size());
  for (From item : from) to.push_back(same<To>(item));
  return to;
}

}  // namespace

void raise(const Failure& error) {
  Error::Details details;
  details.reserve(error.details.size());
  for (const Detail& detail : error.details) details.emplace_back(detail.key, detail.value);
  throw Error(same<ErrorCode>(error.code), error.sentence, std::move(details));
}

Access to_wire(Access access) {
  return same<Access>(access);
}
Access from_wire(Access access) {
  return same<Access>(access);
}
SubjectKind to_wire(SubjectKind subject) {
  return same<SubjectKind>(subject);
}

schema::Create to_wire(const RegionSpec& spec, std::optional<Access> grant) {
  schema::Create create;
  create.name = spec.name;
  create.size = {spec.size};
  create.pool = spec.pool;
  create.cache = {same<CacheMode>(spec.cache.mode), spec.cache.required};
  create.lifetime = {same<LifetimeKind>(spec.lifetime.kind), spec.lifetime.ttl};
  create.mode = spec.mode;
  create.group = spec.group;
  if (spec.seal) create.seal = same<SealKind>(*spec.seal);
  if (grant) create.grant = to_wire(*grant);
  return create;
}

Limits to_wire(const Limits& limits) {
  return {limits.bytes, limits.regions, limits.grants, limits.connections};
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
  to.cache = from_wire(from.cache);
  to.durability = from_wire(from.durability);
  to.confinement = same<Confinement>(from.confinement);
  to.seal = same<SealKind>(from.seal);
  to.lifetime = {same<LifetimeKind>(from.lifetime.kind), from.lifetime.ttl};
  to.created_unix = std::chrono::nanoseconds(from.created_unix_ns);
  if (from.remaining_ns >= 0) to.remaining = std::chrono::nanoseconds(from.remaining_ns);
  to.state = same<RegionState>(from.state);
  to.grants = from.grants;
  to.held = from.held.value;
  to.bad_blocks = from.bad_blocks;
  return to;
}

RegionDetails from_wire(const schema::Shown& shown) {
  RegionDetails details{from_wire(shown.region), {}};
  for (const schema::Holder& holder : shown.holders)
    details.holders.push_back({holder.uid, from_wire(holder.rights), holder.count});
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
  to.confinement = same<Confinement>(from.confinement);
  to.confinement_reason = from.confinement_reason;
  to.seals = all<SealKind>(from.seals);
  to.cache_modes = all<CacheMode>(from.cache_modes);
  to.cache_verified = from.cache_verified;
  to.durability = from_wire(from.durability);
  return to;
}

QuotaInfo from_wire(const schema::QuotaInfo& from) {
  QuotaInfo to;
  to.slot = {same<SubjectKind>(from.subject), from.id, from.pool};
  to.limits = {from.limits.bytes, from.limits.regions, from.limits.grants, from.limits.connections};
  to.bytes = from.bytes;
  to.regions = from.regions;
  to.grants = from.grants;
  to.connections = from.connections;
  to.overridden = from.overridden;
  return to;
}

std::optional<Notice> from_wire(const schema::Notice& from) {
  if (from.kind == schema::NoticeKind::progress) return std::nullopt;
  Notice to;
  to.kind = same<Notice::Kind>(from.kind);
  to.region = from.id.value;
  to.name = from.name;
  to.within = from.within;
  return to;
}

}  // namespace mapcap
