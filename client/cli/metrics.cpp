// metrics: what Prometheus and its like read.
#include <iostream>
#include <map>
#include <string>
#include <vector>

#include "client/cli/broker.h"
#include "client/cli/commands.h"
#include "client/cli/exposition.h"
#include "client/cli/text.h"

namespace mapcap::cli {
namespace {

void add(Exposition& out, const BrokerStatus& status) {
  const auto one = [&out](const char* name, const char* help, std::uint64_t value) {
    out.family(name, help);
    out.sample({}, value);
  };
  one("mapcap_unguarded_regions", "Regions that would be lost if the broker died now.", status.unguarded);
  one("mapcap_keeper_serving", "1, or 0 while the keeper is being replaced.", status.keeper.serving ? 1 : 0);
  one("mapcap_keeper_held_regions", "Regions whose memory the keeper holds.", status.keeper.held);
  one("mapcap_keeper_sockets", "Listening sockets of endpoints that the keeper holds.",
      status.keeper.sockets);
  one("mapcap_keeper_blanks", "Grants that are made ahead of creates, and ready.", status.keeper.blanks);
  one("mapcap_keeper_blanks_used", "Creates that took one since the broker started.",
      status.keeper.blanks_used);
  one("mapcap_keeper_opens", "Grants that are made ahead of opens, and ready.", status.keeper.opens);
  one("mapcap_keeper_opens_used", "Opens that took one since the broker started.", status.keeper.opens_used);
  one("mapcap_keeper_replaced", "How often the keeper was replaced since the broker started.",
      status.keeper.replaced);
  one("mapcap_ledger_refuses", "1 while changes are refused, as with a full disk.",
      status.ledger_trouble.empty() ? 0 : 1);
  if (status.store) {
    one("mapcap_fd_store_regions", "Regions that the service manager holds.", status.store->stored);
    one("mapcap_fd_store_sockets", "Listening sockets of endpoints that the service manager holds.",
        status.store->sockets);
    one("mapcap_fd_store_without_place", "Regions that the service manager had no place for.",
        status.store->without_place);
  }
  one("mapcap_connections", "Connections that are served.", status.connections);
  one("mapcap_connections_limit", "The most connections that are served.", status.max_connections);
}

}  // namespace

int perform(const Common& common, const MetricsCommand&) {
  Client client = connect(common);
  const std::vector<PoolInfo> pools = client.pools();
  const std::vector<RegionInfo> regions = client.list("");
  const std::vector<QuotaInfo> quotas = client.quota();

  Exposition out;
  out.family("mapcap_pool_capacity_bytes", "Bytes that a pool can hand out.");
  for (const PoolInfo& pool : pools)
    out.sample({{"pool", pool.name}, {"backing", pool.backing}}, pool.capacity);
  out.family("mapcap_pool_used_bytes", "Bytes of a pool that are charged to somebody.");
  for (const PoolInfo& pool : pools) out.sample({{"pool", pool.name}}, pool.used);
  out.family("mapcap_pool_regions", "Regions of a pool.");
  for (const PoolInfo& pool : pools) out.sample({{"pool", pool.name}}, pool.regions);

  std::map<std::pair<std::string, std::string>, std::uint64_t> states;
  std::map<std::string, std::uint64_t> grants;
  std::map<std::string, std::uint64_t> bad_blocks;
  for (const RegionInfo& region : regions) {
    ++states[{region.pool, std::string(state_text(region))}];
    grants[region.pool] += region.grants;
    bad_blocks[region.pool] += region.bad_blocks;
  }
  out.family("mapcap_regions", "Regions that you may see, by state.");
  for (const auto& [where, count] : states)
    out.sample({{"pool", where.first}, {"state", where.second}}, count);
  out.family("mapcap_grants", "Grants alive of regions that you may see.");
  for (const auto& [pool, count] : grants) out.sample({{"pool", pool}}, count);
  out.family("mapcap_bad_blocks",
             "Sectors of 512 bytes that the kernel lists as bad in regions that you may see.");
  for (const auto& [pool, count] : bad_blocks) out.sample({{"pool", pool}}, count);

  const auto each = [&](const char* name, const char* help, auto used, auto limit) {
    out.family(std::string(name) + "_used", help);
    for (const QuotaInfo& quota : quotas)
      out.sample({{"subject", subject_text(quota)}, {"pool", quota.slot.pool}}, used(quota));
    out.family(std::string(name) + "_limit", std::string(help) + " The most that the quota allows.");
    for (const QuotaInfo& quota : quotas) {
      if (const std::optional<std::uint64_t> most = limit(quota.limits))
        out.sample({{"subject", subject_text(quota)}, {"pool", quota.slot.pool}}, *most);
    }
  };
  each(
      "mapcap_quota_bytes", "Bytes charged to a subject.", [](const QuotaInfo& q) { return q.bytes; },
      [](const Limits& l) { return l.bytes; });
  each(
      "mapcap_quota_regions", "Regions charged to a subject.", [](const QuotaInfo& q) { return q.regions; },
      [](const Limits& l) { return l.regions; });
  each(
      "mapcap_quota_grants", "Grants charged to a subject.", [](const QuotaInfo& q) { return q.grants; },
      [](const Limits& l) { return l.grants; });
  each(
      "mapcap_quota_connections", "Connections of a subject.",
      [](const QuotaInfo& q) { return q.connections; }, [](const Limits& l) { return l.connections; });
  add(out, client.status());
  std::cout << (common.json ? out.json() : out.text());
  return 0;
}

}  // namespace mapcap::cli
