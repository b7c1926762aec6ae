// create, show, renew, publish, revoke
#include <iostream>
#include <optional>

#include "base/pieces.h"
#include "base/units.h"
#include "client/cli/ask.h"
#include "client/cli/broker.h"
#include "client/cli/commands.h"
#include "client/cli/interrupt.h"
#include "client/cli/json.h"
#include "client/cli/listing.h"
#include "client/cli/names.h"
#include "client/cli/progress.h"
#include "client/cli/text.h"

namespace mapcap::cli {
namespace {

// A bar that appears with the first report.
class Reported {
 public:
  explicit Reported(std::string what) : what_(std::move(what)) {}
  void operator()(std::uint64_t done, std::uint64_t total) {
    if (!bar_) bar_.emplace(what_, total);
    bar_->set_total(total);
    bar_->update(done);
  }

 private:
  std::string what_;
  std::optional<ProgressBar> bar_;
};

}  // namespace

int perform(const Common& common, const CreateCommand& command) {
  Client client = connect(common);
  RegionInfo region;
  {
    Reported reported("preparing " + command.spec.name);
    region = client.create(command.spec, std::ref(reported));
  }
  if (common.json) {
    std::cout << json(region) << '\n';
    return 0;
  }
  std::cout << "created " << region.name << ": " << size_text(region.size) << " in pool " << region.pool
            << ", " << cache_text(region.cache) << ", " << to_string(region.seal) << ", "
            << confinement_text(region.confinement) << ", " << lifetime_text(region.lifetime) << '\n';
  return 0;
}

int perform(const Common& common, const ShowCommand& command) {
  const RegionDetails details = connect(common).show(command.name);
  if (common.json) {
    std::cout << json(details) << '\n';
    return 0;
  }
  const RegionInfo& region = details.region;
  const CacheStatus& cache = region.cache;
  const auto line = [](std::string_view key, const std::string& value) {
    std::cout << key << std::string(key.size() < 14 ? 14 - key.size() : 1, ' ') << value << '\n';
  };
  line("name", region.name);
  line("id", std::to_string(region.id));
  line("pool", region.pool);
  const std::string owner = who_text(region.owner, region.endpoint);
  // An endpoint's group is its own, by the same number.
  const std::string group =
      region.group == region.owner && !region.endpoint.empty() ? "" : ":" + group_name(region.group);
  line("owner", owner + group + " " + format_mode(region.mode));
  line("size", size_text(region.size) + " (" + std::to_string(region.size) + " bytes)");
  line("cache", cache_text(cache) + ", by " + std::string(to_string(cache.mechanism)) +
                    (cache.verified ? ", verified" : ", not verified"));
  line("durability", durability_text(region.durability));
  line("confinement", confinement_text(region.confinement));
  line("revoke", revoke_text(region).sentence);
  line("lifetime", lifetime_text(region));
  line("created", time_text(region.created_unix));
  line("state", std::string(state_text(region)));
  if (region.published_unix)
    line("published", time_text(*region.published_unix) + ": nobody can write it any more");
  line("held", size_text(region.held) + " charged to " + owner + ", " + std::to_string(region.grants) +
                   " grants alive");
  if (region.bad_blocks > 0) line("bad blocks", std::to_string(region.bad_blocks) + " sectors of 512 bytes");
  for (const Holder& holder : details.holders) {
    const std::string place = place_text(holder);
    line("holder", who_text(holder) + (place.empty() ? "" : " in " + place) + ": " +
                       std::to_string(holder.count) + " " + std::string(to_string(holder.rights)));
  }
  return 0;
}

int perform(const Common& common, const RenewCommand& command) {
  const RegionInfo region = connect(common).renew(command.name, command.ttl);
  if (common.json) {
    std::cout << json(region) << '\n';
  } else {
    std::cout << "renewed " << region.name << ": " << lifetime_text(region) << '\n';
  }
  return 0;
}

int perform(const Common& common, const PublishCommand& command) {
  Client client = connect(common);
  std::optional<WaitingLine> waiting;
  if (command.within.count() > 0) waiting.emplace("waiting for writers of " + command.name, command.within);
  const RegionInfo region = client.publish(command.name, command.within);
  waiting.reset();
  if (common.json) {
    std::cout << json(region) << '\n';
  } else {
    std::cout << "published " << region.name << ": nobody can write it any more\n";
  }
  return 0;
}

namespace {

Revoked revoke_one(Client& client, const RevokeCommand& command, const std::string& name) {
  std::optional<WaitingLine> waiting;
  const ToldOnInterrupt told(command.drain ? "\nmapcap: the drain of " + name +
                                                 " goes on; end it now with: mapcap revoke " + name + "\n"
                                           : std::string());
  if (command.drain) waiting.emplace("draining " + name, command.within);
  Reported reported("revoking " + name);
  return client.revoke(name, {command.drain, command.within, [&](std::uint64_t done, std::uint64_t total) {
                                if (waiting) waiting->stop();
                                reported(done, total);
                              }});
}

/// All that match, one after another; the first failure does not keep the others.
int revoke_many(const Common& common, Client& client, const RevokeCommand& command) {
  std::vector<std::string> names;
  for (const RegionInfo& region : client.list(command.name)) {
    // What is on its way already needs nobody, and its name may be another region's.
    if (region.state == RegionState::live || region.state == RegionState::lost ||
        region.state == RegionState::revoking)
      names.push_back(region.name);
  }
  if (names.empty()) {
    tell_nothing_matches(client, command.name);
    return 1;
  }
  if (!command.yes) ask("Revoke " + counted(names.size(), "region") + " that match " + command.name + "?");
  Revoked all;
  std::size_t revoked = 0;
  for (const std::string& name : names) {
    try {
      const Revoked one = revoke_one(client, command, name);
      all.held += one.held;
      all.grants += one.grants;
      ++revoked;
    } catch (const Error& error) {
      if (error.code() == ErrorCode::not_found) continue;  // It ended by itself meanwhile.
      std::cerr << "mapcap: " << name << ": " << error.what() << '\n';
    }
  }
  if (common.json) {
    std::cout << json(all) << '\n';
  } else {
    std::cout << "revoked " << counted(revoked, "region") << '\n';
  }
  return revoked == names.size() ? 0 : 1;
}

}  // namespace

int perform(const Common& common, const RevokeCommand& command) {
  Client client = connect(common);
  if (command.name.find_first_of("*?[") != std::string::npos) return revoke_many(common, client, command);
  const Revoked revoked = revoke_one(client, command, command.name);
  if (common.json) {
    std::cout << json(revoked) << '\n';
    return 0;
  }
  std::cout << "revoked " << command.name;
  if (revoked.held > 0) {
    // Of grants that were made before a restart the broker knows no number, only that somebody has the
    // memory.
    std::cout << ": " << size_phrase(revoked.held) << " stay charged until ";
    if (revoked.grants == 0) {
      std::cout << "whoever still has it open or mapped lets go";
    } else {
      std::cout << revoked.grants << (revoked.grants == 1 ? " grant is" : " grants are") << " let go";
    }
  }
  std::cout << '\n';
  return 0;
}

}  // namespace mapcap::cli
