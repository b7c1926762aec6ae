// A region as replies tell of it, to packets and back: its cache mode, its durability, and the rest.
#include <chrono>
#include <optional>

#include "schema/wire.h"

namespace mapcap::schema::codec {
namespace {

Result<CacheStatus> read(wire::CacheStatus::Reader reader) {
  CacheStatus cache;
  MAPCAP_TRY(cache.requested, read_cache_mode(reader.getRequested(), "cache.requested"));
  cache.required = reader.getRequired();
  MAPCAP_TRY(cache.effective, read_cache_mode(reader.getEffective(), "cache.effective"));
  MAPCAP_TRY(cache.mechanism, read_enum(reader.getMechanism(), CacheMechanism::platform, "cache.mechanism"));
  cache.verified = reader.getVerified();
  return cache;
}
void write(const CacheStatus& cache, wire::CacheStatus::Builder builder) {
  builder.setRequested(as_wire<wire::CacheMode>(cache.requested));
  builder.setRequired(cache.required);
  builder.setEffective(as_wire<wire::CacheMode>(cache.effective));
  builder.setMechanism(as_wire<wire::CacheMechanism>(cache.mechanism));
  builder.setVerified(cache.verified);
}

}  // namespace

Result<Durability> read(wire::Durability::Reader reader) {
  Durability durability;
  MAPCAP_TRY(durability.granularity,
             read_enum(reader.getGranularity(), Granularity::byte, "durability.granularity"));
  MAPCAP_TRY(durability.domain,
             read_enum(reader.getDomain(), PersistenceDomain::cpu_cache, "durability.domain"));
  durability.map_sync = reader.getMapSync();
  return durability;
}
void write(const Durability& durability, wire::Durability::Builder builder) {
  builder.setGranularity(as_wire<wire::Granularity>(durability.granularity));
  builder.setDomain(as_wire<wire::PersistenceDomain>(durability.domain));
  builder.setMapSync(durability.map_sync);
}

namespace {

Result<std::optional<std::chrono::nanoseconds>> read(wire::RegionInfo::Published::Reader reader) {
  switch (reader.which()) {
    case wire::RegionInfo::Published::NO:
      return std::optional<std::chrono::nanoseconds>();
    case wire::RegionInfo::Published::UNIX_NS:
      return std::optional(std::chrono::nanoseconds(reader.getUnixNs()));
  }
  return malformed("region.published", "unknown kind");
}
}  // namespace

Result<RegionInfo> read(wire::RegionInfo::Reader reader) {
  RegionInfo region;
  region.id = reader.getId();
  MAPCAP_TRY(region.name, read_text(reader.getName(), "region.name", kMaxNameText));
  MAPCAP_TRY(region.pool, read_text(reader.getPool(), "region.pool", kMaxPoolName));
  region.owner = reader.getOwner();
  region.group = reader.getGroup();
  MAPCAP_TRY(region.mode, read_mode(reader.getMode(), "region.mode"));
  region.size = reader.getSize();
  MAPCAP_TRY(region.cache, read(reader.getCache()));
  MAPCAP_TRY(region.durability, read(reader.getDurability()));
  MAPCAP_TRY(region.confinement, read_enum(reader.getConfinement(), Confinement::lsm, "region.confinement"));
  MAPCAP_TRY(region.seal, read_seal(reader.getSeal(), "region.seal"));
  MAPCAP_TRY(region.lifetime, read(reader.getLifetime()));
  region.created_unix = std::chrono::nanoseconds(reader.getCreatedUnixNs());
  MAPCAP_TRY(region.remaining, read_remaining(reader.getRemaining(), "region.remaining"));
  MAPCAP_TRY(region.state, read_enum(reader.getState(), RegionState::lost, "region.state"));
  region.grants = reader.getGrants();
  region.held = reader.getHeld();
  region.bad_blocks = reader.getBadBlocks();
  region.draining = reader.getDraining();
  MAPCAP_TRY(region.published_unix, read(reader.getPublished()));
  MAPCAP_TRY(region.endpoint, read_text(reader.getEndpoint(), "region.endpoint", kMaxWord));
  return region;
}
void write(const RegionInfo& region, wire::RegionInfo::Builder builder) {
  builder.setId(region.id);
  builder.setName(as_text(region.name));
  builder.setPool(as_text(region.pool));
  builder.setOwner(region.owner);
  builder.setGroup(region.group);
  builder.setMode(static_cast<std::uint16_t>(region.mode));
  builder.setSize(region.size);
  write(region.cache, builder.initCache());
  write(region.durability, builder.initDurability());
  builder.setConfinement(as_wire<wire::Confinement>(region.confinement));
  builder.setSeal(as_wire<wire::SealKind>(region.seal));
  write(region.lifetime, builder.initLifetime());
  builder.setCreatedUnixNs(region.created_unix.count());
  write_remaining(region.remaining, builder.getRemaining());
  builder.setState(as_wire<wire::RegionState>(region.state));
  builder.setGrants(region.grants);
  builder.setHeld(region.held);
  builder.setBadBlocks(region.bad_blocks);
  builder.setDraining(region.draining);
  if (region.published_unix) {
    builder.getPublished().setUnixNs(region.published_unix->count());
  } else {
    builder.getPublished().setNo();
  }
  builder.setEndpoint(as_text(region.endpoint));
}

}  // namespace mapcap::schema::codec
