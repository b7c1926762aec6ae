#include "broker/books/pools.h"

#include "broker/books/quotas.h"

namespace mapcap::broker {

schema::PoolList describe(const ServedPools& pools, const Quotas& quotas) {
  schema::PoolList list;
  for (const auto& served : pools) {
    const pool::Facts& facts = served->facts();
    PoolInfo info;
    info.name = facts.name;
    info.backing = facts.backing;
    info.capacity = facts.capacity.value;
    info.used = quotas.pool_used(facts.name);
    info.regions = quotas.pool_regions(facts.name);
    info.granule = facts.granule.value;
    info.confinement = served->confiner->kind();
    info.confinement_reason = served->confinement_reason;
    info.seals = facts.seals;
    info.cache_modes = facts.cache_modes;
    info.cache_verified = served->cache_verified();
    info.durability = facts.durability;
    list.pools.push_back(std::move(info));
  }
  return list;
}

}  // namespace mapcap::broker
