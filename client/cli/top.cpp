// top: who uses how much now, again and again.
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <iostream>
#include <sstream>
#include <thread>

#include "client/cli/broker.h"
#include "client/cli/commands.h"
#include "client/cli/json.h"
#include "client/cli/names.h"
#include "client/cli/table.h"
#include "client/cli/terminal.h"
#include "client/cli/text.h"

namespace mapcap::cli {
namespace {

constexpr std::chrono::seconds kLookAgain{1};
constexpr std::size_t kUsers = 10;
constexpr std::size_t kRegions = 15;

std::string share(std::uint64_t part, std::uint64_t whole) {
  return whole == 0 ? "-" : std::to_string(part * 100 / whole) + "%";
}

void print_pools(const std::vector<PoolInfo>& pools) {
  Table table({{"POOL"},
               {"USED", Align::right},
               {"OF", Align::right},
               {"", Align::right},
               {"REGIONS", Align::right}});
  for (const PoolInfo& pool : pools) {
    table.add({pool.name, size_text(pool.used), size_text(pool.capacity), share(pool.used, pool.capacity),
               std::to_string(pool.regions)});
  }
  table.print(std::cout);
}

/// Users over all pools, those who use most first.
void print_users(std::vector<QuotaInfo> quotas) {
  std::erase_if(quotas, [](const QuotaInfo& quota) {
    return quota.slot.subject != SubjectKind::user || !quota.slot.pool.empty();
  });
  std::sort(quotas.begin(), quotas.end(),
            [](const QuotaInfo& a, const QuotaInfo& b) { return a.bytes > b.bytes; });
  Table table({{"USER"},
               {"BYTES", Align::right},
               {"REGIONS", Align::right},
               {"GRANTS", Align::right},
               {"CONNECTIONS", Align::right},
               {"OF LIMITS", Align::right}});
  for (std::size_t i = 0; i < std::min(quotas.size(), kUsers); ++i) {
    const QuotaInfo& quota = quotas[i];
    table.add({who_text(quota.slot.id, quota.endpoint), size_text(quota.bytes), std::to_string(quota.regions),
               std::to_string(quota.grants), std::to_string(quota.connections),
               percent_text(used_percent(quota))});
  }
  table.print(std::cout);
}

void print_regions(std::vector<RegionInfo> regions) {
  regions = select(std::move(regions), {}, RegionOrder::held);
  Table table({{"LARGEST REGIONS"}, {"OWNER"}, {"HELD", Align::right}, {"GRANTS", Align::right}, {"STATE"}});
  for (std::size_t i = 0; i < std::min(regions.size(), kRegions); ++i) {
    const RegionInfo& region = regions[i];
    table.add({region.name, who_text(region.owner, region.endpoint), size_text(region.held),
               std::to_string(region.grants), std::string(state_text(region))});
  }
  table.print(std::cout);
}

}  // namespace

int perform(const Common& common, const TopCommand&) {
  Client client = connect(common);
  const bool terminal = ::isatty(STDOUT_FILENO) != 0;
  for (;;) {
    const std::vector<PoolInfo> pools = client.pools();
    const std::vector<QuotaInfo> quotas = client.quota();
    const std::vector<RegionInfo> regions = client.list("");
    if (common.json) {
      std::cout << "{\"pools\":" << json(pools) << ",\"quotas\":" << json(quotas)
                << ",\"regions\":" << json(select(regions, {}, RegionOrder::held)) << "}\n";
    } else {
      if (terminal) std::cout << "\x1b[H\x1b[2J";  // ECMA-48: home, erase the screen
      print_pools(pools);
      std::cout << '\n';
      print_users(quotas);
      std::cout << '\n';
      print_regions(regions);
    }
    std::cout.flush();
    // Once for whoever reads it from a pipe or a file.
    if (!terminal || !std::cout) return 0;
    std::this_thread::sleep_for(kLookAgain);
  }
}

}  // namespace mapcap::cli
