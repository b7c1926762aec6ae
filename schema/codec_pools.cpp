// Pools and quota slots to packets and back.
#include "schema/wire.h"

namespace mapcap::schema::codec {

namespace {

constexpr std::size_t kMaxBackingText = 32;

}  // namespace

Result<PoolInfo> read(wire::PoolInfo::Reader reader) {
  PoolInfo pool;
  MAPCAP_TRY(pool.name, read_text(reader.getName(), "pool.name", kMaxPoolName));
  MAPCAP_TRY(pool.backing, read_text(reader.getBacking(), "pool.backing", kMaxBackingText));
  pool.capacity = reader.getCapacity();
  pool.used = reader.getUsed();
  pool.regions = reader.getRegions();
  pool.granule = reader.getGranule();
  MAPCAP_TRY(pool.confinement, read_enum(reader.getConfinement(), Confinement::lsm, "pool.confinement"));
  MAPCAP_TRY(pool.confinement_reason, read_text(reader.getConfinementReason(), "pool.reason", kMaxReason));
  for (const wire::SealKind kind : reader.getSeals()) {
    MAPCAP_TRY(const SealKind seal, read_seal(kind, "pool.seals"));
    pool.seals.push_back(seal);
  }
  for (const wire::CacheMode mode : reader.getCacheModes()) {
    MAPCAP_TRY(const CacheMode cache, read_cache_mode(mode, "pool.cache"));
    pool.cache_modes.push_back(cache);
  }
  pool.cache_verified = reader.getCacheVerified();
  MAPCAP_TRY(pool.durability, read(reader.getDurability()));
  return pool;
}
void write(const PoolInfo& pool, wire::PoolInfo::Builder builder) {
  builder.setName(as_text(pool.name));
  builder.setBacking(as_text(pool.backing));
  builder.setCapacity(pool.capacity);
  builder.setUsed(pool.used);
  builder.setRegions(pool.regions);
  builder.setGranule(pool.granule);
  builder.setConfinement(as_wire<wire::Confinement>(pool.confinement));
  builder.setConfinementReason(as_text(presentable(pool.confinement_reason, kMaxReason)));
  auto seals = builder.initSeals(count_of(pool.seals));
  for (unsigned i = 0; i < seals.size(); ++i) seals.set(i, as_wire<wire::SealKind>(pool.seals[i]));
  auto modes = builder.initCacheModes(count_of(pool.cache_modes));
  for (unsigned i = 0; i < modes.size(); ++i) modes.set(i, as_wire<wire::CacheMode>(pool.cache_modes[i]));
  builder.setCacheVerified(pool.cache_verified);
  write(pool.durability, builder.initDurability());
}

Result<QuotaInfo> read(wire::QuotaInfo::Reader reader) {
  QuotaInfo quota;
  MAPCAP_TRY(quota.slot, read(reader.getSlot()));
  MAPCAP_TRY(quota.limits, read(reader.getLimits()));
  quota.bytes = reader.getBytes();
  quota.regions = reader.getRegions();
  quota.grants = reader.getGrants();
  quota.connections = reader.getConnections();
  quota.overridden = reader.getOverridden();
  MAPCAP_TRY(quota.endpoint, read_text(reader.getEndpoint(), "quota.endpoint", kMaxWord));
  return quota;
}
void write(const QuotaInfo& quota, wire::QuotaInfo::Builder builder) {
  write(quota.slot, builder.initSlot());
  write(quota.limits, builder.initLimits());
  builder.setBytes(quota.bytes);
  builder.setRegions(quota.regions);
  builder.setGrants(quota.grants);
  builder.setConnections(quota.connections);
  builder.setOverridden(quota.overridden);
  builder.setEndpoint(as_text(quota.endpoint));
}

}  // namespace mapcap::schema::codec
