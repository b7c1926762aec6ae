#include "schema/codec_status.h"

namespace mapcap::schema::codec {
namespace {

Result<KeeperStatus> read(wire::Status::Keeper::Reader reader) {
  KeeperStatus keeper;
  keeper.pid = reader.getPid();
  keeper.serving = reader.getServing();
  keeper.adopted = reader.getAdopted();
  keeper.held = reader.getHeld();
  keeper.replaced = reader.getReplaced();
  MAPCAP_TRY(keeper.last_end, read_text(reader.getLastEnd(), "status.keeper.lastEnd", kMaxSentence));
  keeper.blanks = reader.getBlanks();
  keeper.blanks_used = reader.getBlanksUsed();
  keeper.opens = reader.getOpens();
  keeper.opens_used = reader.getOpensUsed();
  keeper.sockets = reader.getSockets();
  return keeper;
}
void write(const KeeperStatus& keeper, wire::Status::Keeper::Builder builder) {
  builder.setPid(keeper.pid);
  builder.setServing(keeper.serving);
  builder.setAdopted(keeper.adopted);
  builder.setHeld(keeper.held);
  builder.setReplaced(keeper.replaced);
  builder.setLastEnd(as_text(presentable(keeper.last_end, kMaxSentence)));
  builder.setBlanks(keeper.blanks);
  builder.setBlanksUsed(keeper.blanks_used);
  builder.setOpens(keeper.opens);
  builder.setOpensUsed(keeper.opens_used);
  builder.setSockets(keeper.sockets);
}

Result<std::optional<StoreUse>> read(wire::Status::Store::Reader reader) {
  switch (reader.which()) {
    case wire::Status::Store::NONE:
      return std::optional<StoreUse>();
    case wire::Status::Store::USE: {
      const auto told = reader.getUse();
      StoreUse use{told.getStored(), told.getWithoutPlace(), {}, told.getSockets()};
      const auto most = told.getMost();
      if (most.isMost()) use.most = most.getMost();
      return std::optional<StoreUse>(use);
    }
  }
  return malformed("status.store", "unknown kind");
}
void write(const std::optional<StoreUse>& store, wire::Status::Store::Builder builder) {
  if (!store) return builder.setNone();
  auto use = builder.initUse();
  use.setStored(store->stored);
  use.setWithoutPlace(store->without_place);
  use.setSockets(store->sockets);
  if (store->most) {
    use.initMost().setMost(*store->most);
  } else {
    use.initMost().setUnlimited();
  }
}

Result<StateCount> read(wire::Status::StateCount::Reader reader) {
  MAPCAP_TRY(const RegionState state,
             read_enum(reader.getState(), RegionState::lost, "status.regions.state"));
  return StateCount{state, reader.getCount()};
}

Result<UnguardedRegion> read(wire::Status::Unguarded::Reader reader) {
  MAPCAP_TRY(std::string name, read_text(reader.getName(), "status.unguarded.name", kMaxNameText));
  return UnguardedRegion{reader.getId(), std::move(name), reader.getOwner()};
}

Result<PoolConfinement> read(wire::Status::Confined::Reader reader) {
  MAPCAP_TRY(std::string pool, read_text(reader.getPool(), "status.pools.pool", kMaxPoolName));
  MAPCAP_TRY(const Confinement confinement,
             read_enum(reader.getConfinement(), Confinement::lsm, "status.pools.confinement"));
  return PoolConfinement{std::move(pool), confinement};
}

}  // namespace

Result<BrokerStatus> read_status(wire::Status::Reader reader) {
  BrokerStatus status;
  MAPCAP_TRY(status.broker, read_text(reader.getBroker(), "status.broker", kMaxClientText));
  status.pid = reader.getPid();
  status.started_unix = std::chrono::nanoseconds(reader.getStartedUnixNs());
  MAPCAP_TRY(status.policy, read_text(reader.getPolicy(), "status.policy", kMaxSentence));
  status.policy_loaded_unix = std::chrono::nanoseconds(reader.getPolicyLoadedUnixNs());
  for (const auto one : reader.getRegions()) {
    MAPCAP_TRY(const StateCount count, read(one));
    status.regions.push_back(count);
  }
  status.unguarded = reader.getUnguarded();
  for (const auto one : reader.getUnguardedRegions()) {
    MAPCAP_TRY(UnguardedRegion region, read(one));
    status.unguarded_regions.push_back(std::move(region));
  }
  MAPCAP_TRY(status.keeper, read(reader.getKeeper()));
  MAPCAP_TRY(status.ledger_trouble,
             read_text(reader.getLedgerTrouble(), "status.ledgerTrouble", kMaxSentence));
  MAPCAP_TRY(status.store, read(reader.getStore()));
  status.connections = reader.getConnections();
  status.max_connections = reader.getMaxConnections();
  for (const auto one : reader.getPools()) {
    MAPCAP_TRY(PoolConfinement pool, read(one));
    status.pools.push_back(std::move(pool));
  }
  return status;
}

void write_status(const BrokerStatus& status, wire::Status::Builder builder) {
  builder.setBroker(as_text(status.broker));
  builder.setPid(status.pid);
  builder.setStartedUnixNs(status.started_unix.count());
  builder.setPolicy(as_text(presentable(status.policy, kMaxSentence)));
  builder.setPolicyLoadedUnixNs(status.policy_loaded_unix.count());
  auto regions = builder.initRegions(count_of(status.regions));
  for (unsigned i = 0; i < regions.size(); ++i) {
    regions[i].setState(as_wire<wire::RegionState>(status.regions[i].state));
    regions[i].setCount(status.regions[i].count);
  }
  builder.setUnguarded(status.unguarded);
  auto unguarded = builder.initUnguardedRegions(count_of(status.unguarded_regions));
  for (unsigned i = 0; i < unguarded.size(); ++i) {
    unguarded[i].setId(status.unguarded_regions[i].id);
    unguarded[i].setName(as_text(status.unguarded_regions[i].name));
    unguarded[i].setOwner(status.unguarded_regions[i].owner);
  }
  write(status.keeper, builder.initKeeper());
  builder.setLedgerTrouble(as_text(presentable(status.ledger_trouble, kMaxSentence)));
  write(status.store, builder.getStore());
  builder.setConnections(status.connections);
  builder.setMaxConnections(status.max_connections);
  auto pools = builder.initPools(count_of(status.pools));
  for (unsigned i = 0; i < pools.size(); ++i) {
    pools[i].setPool(as_text(status.pools[i].pool));
    pools[i].setConfinement(as_wire<wire::Confinement>(status.pools[i].confinement));
  }
}

}  // namespace mapcap::schema::codec
