// list, holders: many regions in one table.
#include <unistd.h>

#include <chrono>
#include <iostream>
#include <thread>

#include "client/cli/broker.h"
#include "client/cli/commands.h"
#include "client/cli/json.h"
#include "client/cli/listing.h"
#include "client/cli/names.h"
#include "client/cli/table.h"
#include "client/cli/text.h"
#include "schema/region_name.h"

namespace mapcap::cli {
namespace {

constexpr std::chrono::seconds kLookAgain{1};

std::vector<RegionInfo> selected(Client& client, const ListCommand& command) {
  return select(client.list(command.glob), command.filter, command.order);
}

void print(const Common& common, const std::vector<RegionInfo>& regions) {
  if (common.json) {
    std::cout << json(regions) << '\n';
    return;
  }
  Table table({{"NAME"},
               {"OWNER"},
               {"POOL"},
               {"SIZE", Align::right},
               {"CACHE"},
               {"CONFINEMENT"},
               {"LIFETIME"},
               {"STATE"},
               {"HELD", Align::right}});
  for (const RegionInfo& region : regions) {
    table.add({region.name, who_text(region.owner, region.endpoint), region.pool, size_text(region.size),
               std::string(to_string(region.cache.effective)), std::string(to_string(region.confinement)),
               lifetime_text(region), std::string(state_text(region)), size_text(region.held)});
  }
  table.print(std::cout);
}

}  // namespace

void tell_nothing_matches(Client& client, const std::string& glob) {
  std::cerr << "mapcap: nothing that you may see matches " << glob;
  const std::string below = glob + "/**";
  if (glob.find_first_of("*?") == std::string::npos && glob.size() <= schema::RegionName::kMaxLength &&
      !client.list(below).empty()) {
    std::cerr << "; did you mean " << below << '?';
  }
  std::cerr << '\n';
}

int perform(const Common& common, const ListCommand& command) {
  Client client = connect(common);
  std::vector<RegionInfo> regions = selected(client, command);
  if (regions.empty() && !command.glob.empty() && !command.watch) tell_nothing_matches(client, command.glob);
  const bool clears = command.watch && !common.json && ::isatty(STDOUT_FILENO) != 0;
  for (;;) {
    if (clears) std::cout << "\x1b[H\x1b[2J";  // ECMA-48: home, erase the screen
    print(common, regions);
    std::cout.flush();
    if (!command.watch || !std::cout) return 0;
    std::this_thread::sleep_for(kLookAgain);
    regions = selected(client, command);
  }
}

int perform(const Common& common, const HoldersCommand& command) {
  Client client = connect(common);
  std::vector<RegionDetails> held;
  const std::vector<RegionInfo> regions = client.list(command.glob);
  if (regions.empty() && !command.glob.empty()) tell_nothing_matches(client, command.glob);
  for (const RegionInfo& region : regions) {
    // Nobody's regions are most of them, and each costs a request.
    if (region.grants == 0) continue;
    try {
      held.push_back(client.show(region.name));
    } catch (const Error& error) {
      if (error.code() != ErrorCode::not_found) throw;  // It ended meanwhile.
    }
  }
  if (common.json) {
    std::cout << json(held) << '\n';
    return 0;
  }
  Table table({{"NAME"}, {"OWNER"}, {"HOLDER"}, {"RUNS IN"}, {"RIGHTS"}, {"GRANTS", Align::right}});
  for (const RegionDetails& details : held) {
    for (const Holder& holder : details.holders) {
      const std::string place = place_text(holder);
      table.add({details.region.name, who_text(details.region.owner, details.region.endpoint),
                 who_text(holder), place.empty() ? "-" : place, std::string(to_string(holder.rights)),
                 std::to_string(holder.count)});
    }
  }
  table.print(std::cout);
  return 0;
}

}  // namespace mapcap::cli
