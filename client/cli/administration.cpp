// pools, quota
#include <iostream>

#include "client/cli/broker.h"
#include "client/cli/commands.h"
#include "client/cli/json.h"
#include "client/cli/table.h"
#include "client/cli/terminal.h"
#include "client/cli/text.h"

namespace mapcap::cli {
namespace {

template <typename Enum>
std::string joined(const std::vector<Enum>& items) {
  std::string text;
  for (Enum item : items) {
    if (!text.empty()) text += ',';
    text += to_string(item);
  }
  return text;
}

std::string used_of(const std::string& used, const std::optional<std::string>& limit) {
  return used + " of " + limit.value_or("-");
}
std::string used_of(std::uint64_t used, std::optional<std::uint64_t> limit) {
  return used_of(std::to_string(used), limit ? std::optional(std::to_string(*limit)) : std::nullopt);
}

std::string limit_text(std::optional<std::uint64_t> limit) {
  return limit ? std::to_string(*limit) : "-";
}

/// Of a slot without one of its own: a user's are those of any user.
Limits limits_in_force(const std::vector<QuotaInfo>& quotas, const QuotaSlot& slot) {
  const QuotaInfo* any = nullptr;
  for (const QuotaInfo& quota : quotas) {
    if (quota.slot.pool != slot.pool) continue;
    if (quota.slot.subject == slot.subject && quota.slot.id == slot.id) return quota.limits;
    if (quota.slot.subject == SubjectKind::any) any = &quota;
  }
  return any != nullptr && slot.subject == SubjectKind::user ? any->limits : Limits{};
}

}  // namespace

int perform(const Common& common, const PoolsCommand&) {
  const std::vector<PoolInfo> pools = connect(common).pools();
  if (common.json) {
    std::cout << json(pools) << '\n';
    return 0;
  }
  Table table({{"POOL"},
               {"BACKING"},
               {"CAPACITY", Align::right},
               {"USED", Align::right},
               {"REGIONS", Align::right},
               {"GRANULE", Align::right},
               {"CONFINEMENT"},
               {"SEALS"},
               {"CACHE"},
               {"DURABILITY"}});
  for (const PoolInfo& pool : pools) {
    table.add({pool.name, pool.backing, size_text(pool.capacity), size_text(pool.used),
               std::to_string(pool.regions), size_text(pool.granule),
               std::string(to_string(pool.confinement)), joined(pool.seals),
               joined(pool.cache_modes) + (pool.cache_verified ? ", verified" : ""),
               durability_text(pool.durability)});
  }
  table.print(std::cout);
  for (const PoolInfo& pool : pools) {
    if (!pool.confinement_reason.empty())
      std::cout << fitted(
          pool.name + " is " + confinement_text(pool.confinement) + ": " + pool.confinement_reason,
          terminal_width());
  }
  return 0;
}

int perform(const Common& common, const QuotaListCommand& command) {
  const std::vector<QuotaInfo> quotas = select(connect(common).quota(), command.filter);
  if (common.json) {
    std::cout << json(quotas) << '\n';
    return 0;
  }
  Table table({{"SUBJECT"},
               {"POOL"},
               {"BYTES", Align::right},
               {"REGIONS", Align::right},
               {"GRANTS", Align::right},
               {"CONNECTIONS", Align::right},
               {"USED", Align::right},
               {"SET BY"}});
  for (const QuotaInfo& quota : quotas) {
    const auto& limits = quota.limits;
    table.add({subject_text(quota), quota.slot.pool.empty() ? "(all)" : quota.slot.pool,
               used_of(size_text(quota.bytes),
                       limits.bytes ? std::optional(size_text(*limits.bytes)) : std::nullopt),
               used_of(quota.regions, limits.regions), used_of(quota.grants, limits.grants),
               used_of(quota.connections, limits.connections), percent_text(used_percent(quota)),
               quota.overridden ? "administrator" : "policy"});
  }
  table.print(std::cout);
  return 0;
}

int perform(const Common& common, const QuotaSetCommand& command) {
  Client client = connect(common);
  const Limits before = limits_in_force(client.quota(), command.slot);
  client.quota_set(command.slot, command.limits);
  const Limits after = limits_in_force(client.quota(), command.slot);
  if (common.json) {
    std::cout << "{\"before\":" << json(before) << ",\"after\":" << json(after) << "}\n";
    return 0;
  }
  std::cout << "set the quota of " << subject_text(command.slot)
            << (command.slot.pool.empty() ? " over all pools" : " in pool " + command.slot.pool) << '\n';
  Table table({{""},
               {"BYTES", Align::right},
               {"REGIONS", Align::right},
               {"GRANTS", Align::right},
               {"CONNECTIONS", Align::right}});
  for (const auto& [when, limits] : {std::pair{"before", before}, {"after", after}}) {
    table.add({when, limits.bytes ? size_text(*limits.bytes) : "-", limit_text(limits.regions),
               limit_text(limits.grants), limit_text(limits.connections)});
  }
  table.print(std::cout);
  return 0;
}

int perform(const Common& common, const QuotaClearCommand& command) {
  connect(common).quota_clear(command.slot);
  if (common.json) {
    std::cout << "{}\n";
  } else {
    std::cout << "cleared the quota of " << subject_text(command.slot)
              << (command.slot.pool.empty() ? " over all pools" : " in pool " + command.slot.pool)
              << ": the policy's limits hold again\n";
  }
  return 0;
}

}  // namespace mapcap::cli
