#include "client/cli/json.h"

#include "base/units.h"
#include "client/cli/doctor.h"
#include "client/cli/json_line.h"
#include "client/cli/names.h"
#include "client/cli/text.h"
#include "policy/problem.h"

namespace mapcap::cli {
namespace {

using nlohmann::ordered_json;

template <typename T>
ordered_json maybe(const std::optional<T>& value) {
  return value ? ordered_json(*value) : ordered_json(nullptr);
}

ordered_json or_null(const std::string& text) {
  return text.empty() ? ordered_json(nullptr) : ordered_json(text);
}

ordered_json value_of(const Durability& durability) {
  return {{"granularity", to_string(durability.granularity)},
          {"domain", to_string(durability.domain)},
          {"map_sync", durability.map_sync}};
}

ordered_json value_of(const RegionInfo& region) {
  const bool ttl = region.lifetime.kind == LifetimeKind::ttl;
  return {
      {"id", region.id},
      {"name", region.name},
      {"pool", region.pool},
      {"owner", region.owner},
      {"owner_name", who_text(region.owner, region.endpoint)},
      {"endpoint", or_null(region.endpoint)},
      {"group", region.group},
      {"group_name", group_name(region.group)},
      {"mode", format_mode(region.mode)},
      {"size", region.size},
      {"cache",
       {{"requested", to_string(region.cache.requested)},
        {"required", region.cache.required},
        {"effective", to_string(region.cache.effective)},
        {"mechanism", to_string(region.cache.mechanism)},
        {"verified", region.cache.verified}}},
      {"durability", value_of(region.durability)},
      {"confinement", to_string(region.confinement)},
      {"seal", to_string(region.seal)},
      {"revoke", revoke_text(region).word},
      {"lifetime", lifetime_text(region.lifetime)},
      {"ttl_ns", ttl ? ordered_json(region.lifetime.ttl.count()) : ordered_json(nullptr)},
      {"remaining_ns", region.remaining ? ordered_json(region.remaining->count()) : ordered_json(nullptr)},
      {"created_unix_ns", region.created_unix.count()},
      {"state", state_text(region)},
      {"grants", region.grants},
      {"held", region.held},
      {"bad_blocks", region.bad_blocks},
      {"published_unix_ns",
       region.published_unix ? ordered_json(region.published_unix->count()) : ordered_json(nullptr)}};
}

ordered_json value_of(const PoolInfo& pool) {
  ordered_json seals = ordered_json::array();
  for (SealKind seal : pool.seals) seals.push_back(to_string(seal));
  ordered_json modes = ordered_json::array();
  for (CacheMode mode : pool.cache_modes) modes.push_back(to_string(mode));
  return {{"name", pool.name},
          {"backing", pool.backing},
          {"capacity", pool.capacity},
          {"used", pool.used},
          {"regions", pool.regions},
          {"granule", pool.granule},
          {"confinement", to_string(pool.confinement)},
          {"confinement_reason", pool.confinement_reason},
          {"seals", std::move(seals)},
          {"cache_modes", std::move(modes)},
          {"cache_verified", pool.cache_verified},
          {"durability", value_of(pool.durability)}};
}

ordered_json value_of(const Limits& limits) {
  return {{"bytes", maybe(limits.bytes)},
          {"regions", maybe(limits.regions)},
          {"grants", maybe(limits.grants)},
          {"connections", maybe(limits.connections)}};
}

ordered_json value_of(const QuotaInfo& quota) {
  constexpr const char* kinds[] = {"any", "user", "group"};
  const auto kind = static_cast<std::size_t>(quota.slot.subject);
  const bool any = quota.slot.subject == SubjectKind::any;
  return {{"subject", kinds[kind]},
          {"id", any ? ordered_json(nullptr) : ordered_json(quota.slot.id)},
          {"pool", quota.slot.pool.empty() ? ordered_json(nullptr) : ordered_json(quota.slot.pool)},
          {"used",
           {{"bytes", quota.bytes},
            {"regions", quota.regions},
            {"grants", quota.grants},
            {"connections", quota.connections}}},
          {"limits", value_of(quota.limits)},
          {"overridden", quota.overridden},
          {"endpoint", or_null(quota.endpoint)}};
}

ordered_json value_of(const EndpointInfo& endpoint) {
  const EndpointSpec& spec = endpoint.spec;
  ordered_json labels = ordered_json::object();
  for (const Label& label : spec.labels) labels[label.key] = label.value;
  return {{"id", spec.id},
          {"state", to_string(endpoint.state)},
          {"maker", endpoint.maker},
          {"maker_name", user_name(endpoint.maker)},
          {"principal", endpoint.principal},
          {"directory", endpoint.directory},
          {"socket", endpoint.directory + "/mapcap.sock"},
          {"names", spec.names},
          {"pools", spec.pools},
          {"verbs", spec.verbs},
          {"rights", to_string(spec.rights)},
          {"limits", value_of(spec.limits)},
          {"used",
           {{"bytes", endpoint.bytes},
            {"regions", endpoint.regions},
            {"grants", endpoint.grants},
            {"connections", endpoint.connections}}},
          {"ttl_ns", spec.ttl.count() > 0 ? ordered_json(spec.ttl.count()) : ordered_json(nullptr)},
          {"remaining_ns",
           endpoint.remaining ? ordered_json(endpoint.remaining->count()) : ordered_json(nullptr)},
          {"created_unix_ns", endpoint.created_unix.count()},
          {"on_end", to_string(spec.on_end)},
          {"labels", std::move(labels)}};
}

ordered_json value_of(const RegionDetails& details) {
  ordered_json value = value_of(details.region);
  ordered_json holders = ordered_json::array();
  for (const Holder& holder : details.holders) {
    holders.push_back({{"uid", holder.uid},
                       {"user", who_text(holder)},
                       {"endpoint", or_null(holder.endpoint)},
                       {"endpoint_ended", holder.ended},
                       {"unit", or_null(holder.unit)},
                       {"container", or_null(holder.container)},
                       {"cgroup", or_null(holder.cgroup)},
                       {"rights", to_string(holder.rights)},
                       {"count", holder.count}});
  }
  value["holders"] = std::move(holders);
  return value;
}

template <typename T>
std::string list_of(const std::vector<T>& items) {
  ordered_json list = ordered_json::array();
  for (const T& item : items) list.push_back(value_of(item));
  return line(list);
}

}  // namespace

std::string json(const Limits& limits) {
  return line(value_of(limits));
}
std::string json(const RegionInfo& region) {
  return line(value_of(region));
}
std::string json(const std::vector<RegionInfo>& regions) {
  return list_of(regions);
}
std::string json(const std::vector<PoolInfo>& pools) {
  return list_of(pools);
}
std::string json(const std::vector<QuotaInfo>& quotas) {
  return list_of(quotas);
}

std::string json(const EndpointInfo& endpoint) {
  return line(value_of(endpoint));
}
std::string json(const std::vector<EndpointInfo>& endpoints) {
  return list_of(endpoints);
}
std::string json(const EndpointEnded& ended) {
  return line({{"revoked", ended.revoked},
               {"kept", ended.kept},
               {"held", ended.held},
               {"opened", ended.opened},
               {"opened_regions", ended.opened_regions},
               {"cut", ended.cut}});
}

std::string json(const RegionDetails& details) {
  return line(value_of(details));
}
std::string json(const std::vector<RegionDetails>& many) {
  return list_of(many);
}

std::string json(const Revoked& revoked) {
  return line({{"held", revoked.held}, {"grants", revoked.grants}});
}

std::string json(const BrokerStatus& status) {
  ordered_json regions = ordered_json::object();
  for (const StateCount& one : status.regions) regions[std::string(to_string(one.state))] = one.count;
  ordered_json unguarded = ordered_json::array();
  for (const UnguardedRegion& region : status.unguarded_regions) {
    unguarded.push_back({{"id", region.id},
                         {"name", region.name},
                         {"owner", region.owner},
                         {"owner_name", user_name(region.owner)}});
  }
  ordered_json pools = ordered_json::object();
  for (const PoolConfinement& one : status.pools) pools[one.pool] = to_string(one.confinement);
  ordered_json store = nullptr;
  if (status.store) {
    store = {{"stored", status.store->stored},
             {"sockets", status.store->sockets},
             {"without_place", status.store->without_place},
             {"most", maybe(status.store->most)}};
  }
  const KeeperStatus& keeper = status.keeper;
  return line(
      {{"broker", status.broker},
       {"pid", status.pid},
       {"started_unix_ns", status.started_unix.count()},
       {"policy", status.policy},
       {"policy_loaded_unix_ns", status.policy_loaded_unix.count()},
       {"regions", std::move(regions)},
       {"unguarded", status.unguarded},
       {"unguarded_regions", std::move(unguarded)},
       {"keeper",
        {{"pid", keeper.pid == 0 ? ordered_json(nullptr) : ordered_json(keeper.pid)},
         {"serving", keeper.serving},
         {"adopted", keeper.adopted},
         {"held", keeper.held},
         {"replaced", keeper.replaced},
         {"last_end", keeper.last_end.empty() ? ordered_json(nullptr) : ordered_json(keeper.last_end)},
         {"blanks", keeper.blanks},
         {"blanks_used", keeper.blanks_used},
         {"opens", keeper.opens},
         {"opens_used", keeper.opens_used},
         {"sockets", keeper.sockets}}},
       {"ledger_trouble",
        status.ledger_trouble.empty() ? ordered_json(nullptr) : ordered_json(status.ledger_trouble)},
       {"fd_store", std::move(store)},
       {"connections", status.connections},
       {"max_connections", status.max_connections},
       {"confinement", std::move(pools)}});
}

std::string json(const ShutdownResult& result, bool ended) {
  return line({{"ended", ended},
               {"regions", result.regions},
               {"users", result.users},
               {"bytes", result.bytes},
               {"lasting", result.lasting},
               {"quarantined", result.quarantined}});
}

std::string json(const Error& error) {
  ordered_json details = ordered_json::object();
  for (const auto& [key, value] : error.details()) details[key] = value;
  return line(
      {{"error",
        {{"code", name_of(error.code())}, {"sentence", error.what()}, {"details", std::move(details)}}}});
}

std::string json(const Copied& copied) {
  return line({{"name", copied.name},
               {"bytes", copied.bytes},
               {"size", copied.size},
               {"persisted", to_string(copied.persisted)},
               {"published", copied.published}});
}

std::string json_object(const std::vector<std::pair<std::string, std::string>>& members) {
  ordered_json object = ordered_json::object();
  for (const auto& [key, value] : members) object[key] = value;
  return line(object);
}

std::string json(const std::vector<Finding>& findings) {
  ordered_json list = ordered_json::array();
  for (const Finding& finding : findings) {
    list.push_back({{"fact", finding.fact},
                    {"state", to_string(finding.state)},
                    {"found", finding.found},
                    {"remedy", finding.remedy},
                    {"needed", finding.needed}});
  }
  return line(list);
}

std::string json(const std::string& file, const std::vector<policy::Problem>& problems) {
  ordered_json list = ordered_json::array();
  for (const policy::Problem& problem : problems) {
    list.push_back({{"file", file},
                    {"line", problem.at.line},
                    {"column", problem.at.column},
                    {"severity", problem.severity == policy::Severity::error ? "error" : "warning"},
                    {"message", problem.message}});
  }
  return line(list);
}

}  // namespace mapcap::cli
