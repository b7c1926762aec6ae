#include "client/cli/said.h"

#include <limits>
#include <sstream>

#include "base/units.h"
#include "base/words.h"
#include "client/cli/names.h"

namespace mapcap::cli {

std::uint64_t bytes_of(const std::string& option, const std::string& text) {
  return judge(option, parse_bytes(text)).value;
}

std::uint64_t count_of(const std::string& option, const std::string& text) {
  std::istringstream in(text);
  std::uint64_t count = 0;
  if (text.empty() || text.front() == '-' || !(in >> count) || !in.eof())
    throw Wrong{option + ": \"" + text + "\" is not a whole number"};
  return count;
}

std::uint32_t id_of(const std::string& option, std::optional<std::uint32_t> id, const std::string& text) {
  if (!id)
    throw Wrong{option + ": there is no \"" + text + "\" on this machine; give an existing name or a number"};
  return *id;
}

RegionSpec region_spec(const Text& text) {
  RegionSpec spec;
  spec.name = text.name;
  // Only `policy explain` may leave it out: what is asked for then is the smallest region.
  spec.size = text.size.empty() ? 1 : bytes_of("--size", text.size);
  if (spec.size == 0) throw Wrong{"--size: a region has at least one byte, for example --size 64M"};
  spec.pool = text.pool;
  if (!text.cache.empty()) {
    spec.cache = {static_cast<CacheMode>(judge("--cache", parse_cache_mode(text.cache))), true};
  } else if (!text.prefer_cache.empty()) {
    spec.cache = {static_cast<CacheMode>(judge("--prefer-cache", parse_cache_mode(text.prefer_cache))),
                  false};
  }
  const Lifetime lifetime = judge("--lifetime", parse_lifetime(text.lifetime));
  spec.lifetime = {static_cast<LifetimeKind>(lifetime.kind), lifetime.ttl};
  spec.mode = judge("--mode", parse_mode(text.mode));
  if (!text.group.empty()) spec.group = id_of("--group", gid_named(text.group), text.group);
  if (text.revocable) spec.seal = SealKind::revocable;
  if (text.sealed) spec.seal = SealKind::sealed;
  return spec;
}

// NAME, NAME:ro or NAME:rw. A name has no colon.
WantedGrant wanted_grant(const std::string& text) {
  const std::size_t colon = text.find(':');
  if (colon == std::string::npos) return {text, Access::read_only};
  const auto rights = parse_access(text.substr(colon + 1));
  if (rights.has_error()) throw Wrong{"\"" + text + "\": write NAME, NAME:ro or NAME:rw"};
  return {text.substr(0, colon), rights.value()};
}

// PATH=NAME[:rw]. A name has no equals sign, so a path may have some.
WantedPath wanted_path(const std::string& text) {
  const std::size_t equals = text.rfind('=');
  if (equals == std::string::npos || equals == 0 || equals + 1 == text.size())
    throw Wrong{"--at \"" + text + "\": write PATH=NAME, PATH=NAME:ro or PATH=NAME:rw"};
  return {text.substr(0, equals), wanted_grant(text.substr(equals + 1))};
}

QuotaSlot quota_slot(const Text& text) {
  const int subjects = (text.user.empty() ? 0 : 1) + (text.group.empty() ? 0 : 1) + (text.any ? 1 : 0);
  if (subjects != 1) throw Wrong{"whose quota? give exactly one of --user U, --group G and --any"};
  if (text.any) return {SubjectKind::any, 0, text.pool};
  if (!text.group.empty())
    return {SubjectKind::group, id_of("--group", gid_named(text.group), text.group), text.pool};
  return {SubjectKind::user, id_of("--user", uid_named(text.user), text.user), text.pool};
}

Limits limits(const Text& text) {
  Limits found;
  // To the broker the largest number of an override is none.
  const auto limit = [](const char* option, const std::string& said,
                        auto parse) -> std::optional<std::uint64_t> {
    if (said.empty()) return std::nullopt;
    if (said == "unlimited") return std::numeric_limits<std::uint64_t>::max();
    return parse(option, said);
  };
  found.bytes = limit("--bytes", text.bytes, bytes_of);
  found.regions = limit("--regions", text.regions, count_of);
  found.grants = limit("--grants", text.grants, count_of);
  found.connections = limit("--connections", text.connections, count_of);
  if (!found.bytes && !found.regions && !found.grants && !found.connections)
    throw Wrong{"no limit given: add --bytes, --regions, --grants or --connections"};
  return found;
}

RegionFilter region_filter(const Text& text) {
  RegionFilter filter;
  if (!text.user.empty()) filter.owner = id_of("--owner", uid_named(text.user), text.user);
  filter.pool = text.pool;
  // Beside the states, what the table calls a live one that nobody can write any more, and one that is still held after its
  // revoke (state_text).
  filter.state = text.state_word;
  if (!text.state_word.empty() && text.state_word != "revoked" && text.state_word != "published")
    filter.state = to_string(judge("--state", parse_region_state(text.state_word)));
  return filter;
}

ListCommand list_command(const Text& text) {
  ListCommand command{text.glob, region_filter(text), RegionOrder::name, text.watch};
  if (!text.sort.empty()) {
    const auto order = parse_region_order(text.sort);
    if (!order) throw Wrong{"--sort: \"" + text.sort + "\" is not one of " + region_orders()};
    command.order = *order;
  }
  return command;
}

PublishCommand publish_command(const Text& text) {
  PublishCommand command{text.name, {}};
  if (!text.within.empty()) command.within = judge("--within", parse_duration(text.within));
  return command;
}

FillCommand fill_command(const Text& text) {
  if (!text.within.empty() && !text.publish)
    throw Wrong{"--within says how long --publish waits: add --publish"};
  FillCommand command{text.name, text.file, {}};
  if (text.publish) command.publish = publish_command(text);
  return command;
}

QuotaFilter quota_filter(const Text& text) {
  QuotaFilter filter;
  if (!text.user.empty()) filter.user = id_of("--user", uid_named(text.user), text.user);
  if (!text.over.empty()) {
    const std::string digits = text.over.substr(0, text.over.size() - (text.over.ends_with('%') ? 1 : 0));
    const std::uint64_t percent = count_of("--over", digits);
    if (percent == 0 || percent > 100) throw Wrong{"--over: say 1% to 100%, for example --over 80%"};
    filter.over_percent = static_cast<double>(percent);
  }
  return filter;
}

AttackCommand attack(const Text& text) {
  AttackCommand command;
  command.name = text.attack;
  command.all = text.all;
  command.except = text.except;
  if (text.memfd != text.attack.empty()) throw Wrong{"--attack wants either the NAME of a region or --memfd"};
  command.rights = judge("--rights", parse_access(text.rights));
  return command;
}

}  // namespace mapcap::cli
