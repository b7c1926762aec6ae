// The broker itself, from C: how it is, and its end.
#include "client/c/call.h"
#include "client/c/client.h"

using namespace mapcap;

namespace {

mapcap_status_info to_c(const BrokerStatus& status) {
  mapcap_status_info told{};
  told.size = sizeof told;
  c::put(told.broker, status.broker);
  told.pid = status.pid;
  told.started_unix_ns = status.started_unix.count();
  c::put(told.policy, status.policy);
  told.policy_loaded_unix_ns = status.policy_loaded_unix.count();
  for (const StateCount& one : status.regions) {
    const auto state = static_cast<std::size_t>(one.state);
    if (state < std::size(told.regions)) told.regions[state] = one.count;
  }
  told.unguarded = status.unguarded;
  told.keeper_pid = status.keeper.pid;
  told.keeper_serving = status.keeper.serving ? 1 : 0;
  told.keeper_adopted = status.keeper.adopted ? 1 : 0;
  told.keeper_held = status.keeper.held;
  told.keeper_replaced = status.keeper.replaced;
  c::put(told.keeper_last_end, status.keeper.last_end);
  c::put(told.ledger_trouble, status.ledger_trouble);
  if (status.store) {
    told.has_store = 1;
    told.store_stored = status.store->stored;
    told.store_without_place = status.store->without_place;
    told.store_most = status.store->most.value_or(MAPCAP_UNLIMITED);
    told.store_sockets = status.store->sockets;
  }
  told.connections = status.connections;
  told.max_connections = status.max_connections;
  told.keeper_blanks = status.keeper.blanks;
  told.keeper_blanks_used = status.keeper.blanks_used;
  told.keeper_opens = status.keeper.opens;
  told.keeper_opens_used = status.keeper.opens_used;
  told.keeper_sockets = status.keeper.sockets;
  return told;
}

}  // namespace

int mapcap_status(mapcap_client* client, mapcap_status_info* info, mapcap_unguarded_visitor visit,
                  void* context) {
  return c::call([&] {
    const BrokerStatus status = c::of(client).status();
    c::tell(info, to_c(status), "mapcap_status_info");
    if (visit == nullptr) return;
    for (const UnguardedRegion& region : status.unguarded_regions) {
      if (visit(region.id, region.name.c_str(), region.owner, context) != 0) return;
    }
  });
}

int mapcap_shutdown(mapcap_client* client, const mapcap_shutdown_options* options,
                    mapcap_shutdown_info* info) {
  return c::call([&] {
    const mapcap_shutdown_options asked =
        c::options_or(options, mapcap_shutdown_options MAPCAP_SHUTDOWN_OPTIONS, "mapcap_shutdown_options");
    const ShutdownResult down = c::of(client).shutdown({asked.end_regions != 0, asked.only_tell != 0});
    c::tell(info,
            mapcap_shutdown_info{sizeof(mapcap_shutdown_info), down.regions, down.users, down.bytes,
                                 down.lasting, down.quarantined},
            "mapcap_shutdown_info");
  });
}
