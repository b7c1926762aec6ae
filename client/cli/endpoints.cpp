// endpoint create, list, show, renew, end
#include <iostream>

#include "base/pieces.h"
#include "base/units.h"
#include "client/cli/broker.h"
#include "client/cli/commands.h"
#include "client/cli/json.h"
#include "client/cli/names.h"
#include "client/cli/table.h"
#include "client/cli/text.h"

namespace mapcap::cli {
namespace {

std::string joined(const std::vector<std::string>& words, const std::string& none) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text.empty() ? none : text;
}

std::string time_left(const EndpointInfo& endpoint) {
  return endpoint.remaining ? format_duration(*endpoint.remaining) : "-";
}

std::string used_of(const std::string& used, std::optional<std::string> limit) {
  return used + (limit ? " of " + *limit : "");
}
std::string used_of(std::uint64_t used, const std::optional<std::uint64_t>& limit) {
  return used_of(std::to_string(used), limit ? std::optional(std::to_string(*limit)) : std::nullopt);
}
std::string bytes_used(const EndpointInfo& endpoint) {
  const auto& limit = endpoint.spec.limits.bytes;
  return used_of(size_text(endpoint.bytes), limit ? std::optional(size_text(*limit)) : std::nullopt);
}

int tell(const Common& common, const EndpointInfo& endpoint, const std::string& what) {
  if (common.json) {
    std::cout << json(endpoint) << '\n';
    return 0;
  }
  const EndpointSpec& spec = endpoint.spec;
  std::cout << what << " endpoint " << spec.id << ": " << to_string(spec.rights) << " "
            << joined(spec.names, "all names")
            << (endpoint.remaining ? ", " + format_duration(*endpoint.remaining) + " left" : "") << ", at "
            << endpoint.directory << "/mapcap.sock\n";
  return 0;
}

}  // namespace

int perform(const Common& common, const EndpointCreateCommand& command) {
  return tell(common, connect(common).endpoint_create(command.spec), "created");
}

int perform(const Common& common, const EndpointRenewCommand& command) {
  return tell(common, connect(common).endpoint_renew(command.id, command.ttl), "renewed");
}

int perform(const Common& common, const EndpointListCommand&) {
  const std::vector<EndpointInfo> endpoints = connect(common).endpoints();
  if (common.json) {
    std::cout << json(endpoints) << '\n';
    return 0;
  }
  Table table({{"ENDPOINT"},
               {"MAKER"},
               {"STATE"},
               {"RIGHTS"},
               {"NAMES"},
               {"BYTES", Align::right},
               {"REGIONS", Align::right},
               {"GRANTS", Align::right},
               {"CONNECTIONS", Align::right},
               {"LEFT", Align::right}});
  for (const EndpointInfo& one : endpoints) {
    const Limits& limits = one.spec.limits;
    table.add({one.spec.id, user_name(one.maker), std::string(to_string(one.state)),
               std::string(to_string(one.spec.rights)), joined(one.spec.names, "all"), bytes_used(one),
               used_of(one.regions, limits.regions), used_of(one.grants, limits.grants),
               used_of(one.connections, limits.connections), time_left(one)});
  }
  table.print(std::cout);
  return 0;
}

int perform(const Common& common, const EndpointShowCommand& command) {
  const EndpointInfo endpoint = connect(common).endpoint(command.id);
  if (common.json) {
    std::cout << json(endpoint) << '\n';
    return 0;
  }
  const EndpointSpec& spec = endpoint.spec;
  const auto line = [](std::string_view key, const std::string& value) {
    std::cout << key << std::string(key.size() < 14 ? 14 - key.size() : 1, ' ') << value << '\n';
  };
  line("endpoint", spec.id);
  line("state", std::string(to_string(endpoint.state)));
  line("maker", user_name(endpoint.maker));
  line("principal", std::to_string(endpoint.principal));
  line("socket", endpoint.directory + "/mapcap.sock");
  line("names", joined(spec.names, "all"));
  line("pools", joined(spec.pools, "all"));
  line("verbs", joined(spec.verbs, "none"));
  line("rights", std::string(to_string(spec.rights)));
  line("bytes", bytes_used(endpoint));
  line("regions", used_of(endpoint.regions, spec.limits.regions));
  line("grants", used_of(endpoint.grants, spec.limits.grants));
  line("connections", used_of(endpoint.connections, spec.limits.connections));
  line("created", time_text(endpoint.created_unix));
  if (endpoint.remaining)
    line("ttl", format_duration_exact(spec.ttl) + " (" + time_left(endpoint) + " left)");
  line("on end", spec.on_end == OnEnd::keep ? "its regions become its maker's" : "its regions are revoked");
  for (const Label& label : spec.labels) line("label", label.key + "=" + label.value);
  return 0;
}

int perform(const Common& common, const EndpointEndCommand& command) {
  const EndpointEnded ended = connect(common).endpoint_end(command.id, command.revoke_opened);
  if (common.json) {
    std::cout << json(ended) << '\n';
    return 0;
  }
  std::cout << "ended endpoint " << command.id << ": " << counted(ended.revoked, "region") << " revoked";
  if (ended.kept > 0) std::cout << ", " << counted(ended.kept, "region") << " kept";
  if (ended.held > 0)
    std::cout << "; " << size_phrase(ended.held)
              << " stay charged until whoever has it open or mapped lets go";
  if (ended.cut > 0) std::cout << "; " << counted(ended.cut, "region") << " that it had open revoked";
  std::cout << '\n';
  if (ended.opened > 0) {
    std::cout << "still with whoever got them through it: " << counted(ended.opened, "grant") << " of "
              << joined(ended.opened_regions, "") << "; only revoking these takes them back\n";
  }
  return 0;
}

}  // namespace mapcap::cli
