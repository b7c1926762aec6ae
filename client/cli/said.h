// What the command line said, and the commands that are made of it. parse.cpp fills it; nothing of CLI11 is here.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "client/cli/command.h"

namespace mapcap::cli {

/// What the command line said, before it is judged. One field an option, shared by the commands that have it.
struct Text {
  std::string name, glob, size, pool, cache, prefer_cache, lifetime, mode, group, within, ttl, file, bytes,
      user, verb, policy, attack, except, rights, state_word, sort, over, shell, owner, before, after;
  std::string regions, grants, connections;
  std::string state = "/var/lib/mapcap";
  std::vector<std::string> names;
  std::vector<std::string> paths;
  bool yes = false, end_regions = false, publish = false;
  bool revocable = false, sealed = false, drain = false, read_only = false, any = false, memfd = false,
       all = false, watch = false, broker = false;
};

/// A usage error: what is wrong, in one sentence.
struct Wrong {
  std::string sentence;
};

template <typename T>
T judge(const std::string& option, Result<T>&& parsed) {
  if (parsed.has_error()) throw Wrong{option + ": " + parsed.error().sentence};
  return std::move(parsed).assume_value();
}

// Each throws Wrong.
std::uint64_t bytes_of(const std::string& option, const std::string& text);
std::uint64_t count_of(const std::string& option, const std::string& text);
std::uint32_t id_of(const std::string& option, std::optional<std::uint32_t> id, const std::string& text);
RegionSpec region_spec(const Text& text);
WantedGrant wanted_grant(const std::string& text);
WantedPath wanted_path(const std::string& text);
QuotaSlot quota_slot(const Text& text);
Limits limits(const Text& text);
RegionFilter region_filter(const Text& text);
ListCommand list_command(const Text& text);
/// Of publish itself, and of fill --publish.
PublishCommand publish_command(const Text& text);
FillCommand fill_command(const Text& text);
QuotaFilter quota_filter(const Text& text);
AttackCommand attack(const Text& text);

}  // namespace mapcap::cli
