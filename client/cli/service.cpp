// status, shutdown
#include <sys/stat.h>

#include <chrono>
#include <iostream>
#include <optional>
#include <thread>

#include "base/pieces.h"
#include "client/cli/ask.h"
#include "client/cli/broker.h"
#include "client/cli/commands.h"
#include "client/cli/json.h"
#include "client/cli/names.h"
#include "client/cli/text.h"

namespace mapcap::cli {
namespace {

void line(std::string_view key, const std::string& value) {
  std::cout << key << std::string(key.size() < 14 ? 14 - key.size() : 1, ' ') << value << '\n';
}

std::string regions_text(const std::vector<StateCount>& counts) {
  std::string text;
  for (const StateCount& one : counts) {
    if (!text.empty()) text += ", ";
    text += std::to_string(one.count) + " " + std::string(to_string(one.state));
  }
  return text.empty() ? "none" : text;
}

/// ", 2 sockets of endpoints"; empty without any.
std::string sockets_text(std::uint64_t sockets) {
  return sockets == 0 ? "" : ", " + counted(sockets, "socket") + " of endpoints";
}

std::string keeper_text(const KeeperStatus& keeper) {
  std::string text = keeper.pid == 0 ? "none at the moment" : "process " + std::to_string(keeper.pid);
  if (keeper.pid != 0 && !keeper.serving) text += ", starting";
  if (keeper.serving) text += ", holds " + counted(keeper.held, "region") + sockets_text(keeper.sockets);
  if (const std::uint64_t ahead = keeper.blanks + keeper.opens; ahead > 0)
    text += ", and " + std::to_string(ahead) + " made ahead";
  if (keeper.adopted) text += ", of an earlier broker";
  if (keeper.replaced > 0) text += ", replaced " + counted(keeper.replaced, "time");
  if (!keeper.last_end.empty()) text += " (the last one " + keeper.last_end + ")";
  return text;
}

std::string store_text(const std::optional<StoreUse>& store) {
  if (!store) return "none: no service manager keeps descriptors";
  std::string text = "holds " + counted(store->stored, "region") + sockets_text(store->sockets);
  if (store->most) text += " of " + std::to_string(*store->most) + " at most";
  if (store->without_place > 0) text += "; " + counted(store->without_place, "region") + " found no place";
  return text;
}

void print(const BrokerStatus& status) {
  line("broker", status.broker + ", process " + std::to_string(status.pid) + ", since " +
                     time_text(status.started_unix));
  line("policy", status.policy + ", since " + time_text(status.policy_loaded_unix));
  line("regions", regions_text(status.regions));
  line("unguarded", status.unguarded == 0
                        ? "none: all volatile memory has a second holder"
                        : counted(status.unguarded, "region") + " would be lost if the broker died now");
  for (const UnguardedRegion& region : status.unguarded_regions)
    line("", region.name + " of " + user_name(region.owner));
  if (status.unguarded_regions.size() < status.unguarded && !status.unguarded_regions.empty())
    line("", "...");
  line("keeper", keeper_text(status.keeper));
  line("ledger",
       status.ledger_trouble.empty() ? "takes changes" : "refuses changes: " + status.ledger_trouble);
  line("fd store", store_text(status.store));
  line("connections", std::to_string(status.connections) + " of " + std::to_string(status.max_connections));
  std::string pools;
  for (const PoolConfinement& one : status.pools)
    pools += (pools.empty() ? "" : ", ") + one.pool + " " + std::string(to_string(one.confinement));
  line("confinement", pools.empty() ? "no pools" : pools);
}

/// "2 regions of non-volatile memory stay"
std::string lasting_text(std::uint64_t regions) {
  return counted(regions, "region") + " of non-volatile memory " + (regions == 1 ? "stays" : "stay");
}

std::string whose(const ShutdownResult& regions) {
  return counted(regions.regions, "region") + " of " + counted(regions.users, "user") + " (" +
         size_phrase(regions.bytes) + ")";
}

/// The broker takes its socket away last: so when this returns it has ended, and what it was to end with it.
class Socket {
 public:
  explicit Socket(std::string path) : path_(std::move(path)), there_(look()) {}

  void await_end() const {
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (there_ && look() == there_ && std::chrono::steady_clock::now() < until)
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }

 private:
  /// Which file it is; none where it cannot be seen.
  [[nodiscard]] std::optional<std::pair<dev_t, ino_t>> look() const {
    struct stat status {};
    if (::stat(path_.c_str(), &status) != 0) return std::nullopt;
    return std::pair{status.st_dev, status.st_ino};
  }

  std::string path_;
  std::optional<std::pair<dev_t, ino_t>> there_;
};

}  // namespace

int perform(const Common& common, const StatusCommand&) {
  const BrokerStatus status = connect(common).status();
  if (common.json) {
    std::cout << json(status) << '\n';
  } else {
    print(status);
  }
  return 0;
}

int perform(const Common& common, const ShutdownCommand& command) {
  Client client = connect(common);
  if (command.end_regions && !command.yes) {
    const ShutdownResult would = client.shutdown({.end_regions = true, .only_tell = true});
    if (would.regions > 0) {
      ask("End " + whose(would) + ", for everybody and for ever" +
          (would.lasting > 0 ? " (" + lasting_text(would.lasting) + ")" : "") + "?");
    }
  }
  const Socket socket(client.socket());
  const ShutdownResult result = client.shutdown({.end_regions = command.end_regions, .only_tell = false});
  socket.await_end();
  if (common.json) {
    std::cout << json(result, command.end_regions) << '\n';
    return 0;
  }
  std::cout << "mapcapd has ended";
  if (result.regions > 0 && command.end_regions) {
    std::cout << ", and " << whose(result) << " with it";
    if (result.quarantined > 0)
      std::cout << ", but for " << counted(result.quarantined, "device") << " that somebody still has";
  } else if (result.regions > 0) {
    std::cout << "; " << whose(result) << (result.regions == 1 ? " stays" : " stay")
              << " with its keeper, for the next one";
  }
  if (result.lasting > 0) std::cout << "; " << lasting_text(result.lasting);
  std::cout << '\n';
  return 0;
}

}  // namespace mapcap::cli
