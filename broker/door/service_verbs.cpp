#include "broker/door/service_verbs.h"

#include <unistd.h>

namespace mapcap::broker {

using namespace std::chrono_literals;
using policy::Verb;

namespace {

/// How long a shutdown waits for a keeper that is being replaced, or has much to take over.
constexpr std::chrono::nanoseconds kSettleWithin = 10s;

KeeperStatus describe(keeper::KeeperHealth health) {
  return {static_cast<std::uint32_t>(health.pid),
          health.serving,
          health.adopted,
          health.held,
          health.replaced,
          std::move(health.last_end),
          health.blanks,
          health.blanks_used,
          health.opens,
          health.opens_used,
          health.sockets};
}

}  // namespace

Task<Result<Delivery>> ServiceVerbs::status(Caller caller, schema::AskStatus) const {
  MAPCAP_CO_TRY_VOID(parts_.regions.authorize(caller, Verb::pools));
  BrokerStatus status;
  status.broker = "mapcapd " MAPCAP_VERSION;
  status.pid = static_cast<std::uint32_t>(::getpid());
  status.started_unix = started_unix_;
  status.regions = co_await parts_.regions.count_states();
  status.policy = parts_.regions.policy().source();
  status.policy_loaded_unix = std::chrono::nanoseconds(parts_.regions.policy_since());
  keeper::KeeperHealth health = parts_.keeper.health();
  status.unguarded = health.unheld;
  status.keeper = describe(std::move(health));
  // Administrators, and whom the policy makes one.
  if (parts_.regions.allows(caller, Verb::shutdown)) {
    for (const RegionId id : parts_.keeper.unheld(schema::kMostUnguarded)) {
      const Region* region = parts_.directory.find(id);
      if (region == nullptr) continue;  // Of a create that is under way.
      status.unguarded_regions.push_back({id.value, region->record.name, region->record.owner});
    }
  }
  if (const std::optional<Failure>& trouble = parts_.ledger.trouble())
    status.ledger_trouble = trouble->sentence;
  if (const FdStore* store = parts_.custody.store())
    status.store = StoreUse{store->stored(), store->without_place(), store->most(), store->sockets()};
  status.connections = static_cast<std::uint32_t>(parts_.listener.connections());
  status.max_connections = static_cast<std::uint32_t>(parts_.listener.limits().connections);
  for (const auto& served : parts_.pools)
    status.pools.push_back({served->facts().name, served->confiner->kind()});
  co_return reply_of(std::move(status));
}

Task<Result<Delivery>> ServiceVerbs::shutdown(Caller caller, schema::Shutdown ask) {
  MAPCAP_CO_TRY_VOID(parts_.regions.authorize(caller, Verb::shutdown));
  Delivery delivery;
  if (ask.only_tell) {
    delivery.body = co_await parts_.regions.count_volatile();
    co_return delivery;
  }
  if (ask.end_regions) {
    MAPCAP_CO_TRY(ShutdownResult ended, co_await parts_.regions.end_volatile());
    delivery.body = ended;
    delivery.afterwards = [this] { stop_(Keeper::ends); };
    co_return delivery;
  }
  const bool settled = co_await parts_.keeper.settle(kSettleWithin);
  if (!settled) {
    const std::uint64_t unheld = parts_.keeper.health().unheld;
    co_return failure(
        ErrorCode::busy,
        "nobody but this broker holds the memory of " + std::to_string(unheld) +
            (unheld == 1 ? " region" : " regions") +
            " at the moment, which would be lost: see mapcap status, and ask again when the keeper "
            "has it, or end the regions with --end-regions",
        {{"unguarded", std::to_string(unheld)}});
  }
  delivery.body = co_await parts_.regions.count_volatile();
  delivery.afterwards = [this] { stop_(Keeper::stays); };
  co_return delivery;
}

}  // namespace mapcap::broker
