#include "client/cli/selection.h"

#include <algorithm>
#include <array>
#include <limits>
#include <tuple>
#include <utility>

#include "client/cli/text.h"

namespace mapcap::cli {
namespace {

constexpr std::array<std::pair<std::string_view, RegionOrder>, 8> kOrders{
    {{"name", RegionOrder::name},
     {"owner", RegionOrder::owner},
     {"pool", RegionOrder::pool},
     {"size", RegionOrder::size},
     {"held", RegionOrder::held},
     {"created", RegionOrder::created},
     {"remaining", RegionOrder::remaining},
     {"state", RegionOrder::state}}};

bool passes(const RegionInfo& region, const RegionFilter& filter) {
  return (!filter.owner || region.owner == *filter.owner) &&
         (filter.pool.empty() || region.pool == filter.pool) &&
         (filter.state.empty() || to_string(region.state) == filter.state ||
          state_text(region) == filter.state);
}

/// Smaller comes first.
using Key = std::tuple<std::string_view, std::int64_t, std::string_view>;

Key key_of(const RegionInfo& region, RegionOrder order) {
  constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();
  const auto largest_first = [](std::uint64_t value) { return -static_cast<std::int64_t>(value); };
  switch (order) {
    case RegionOrder::owner:
      return {{}, region.owner, region.name};
    case RegionOrder::pool:
      return {region.pool, 0, region.name};
    case RegionOrder::size:
      return {{}, largest_first(region.size), region.name};
    case RegionOrder::held:
      return {{}, largest_first(region.held), region.name};
    case RegionOrder::created:
      return {{}, -region.created_unix.count(), region.name};
    case RegionOrder::remaining:
      return {{}, region.remaining ? region.remaining->count() : kNever, region.name};
    case RegionOrder::state:
      return {state_text(region), 0, region.name};
    case RegionOrder::name:
      break;
  }
  return {{}, 0, region.name};
}

double part(std::uint64_t used, std::optional<std::uint64_t> limit) {
  if (!limit) return 0;
  if (*limit == 0) return used == 0 ? 0 : 100;
  return 100.0 * static_cast<double>(used) / static_cast<double>(*limit);
}

}  // namespace

std::optional<RegionOrder> parse_region_order(std::string_view word) {
  for (const auto& [known, order] : kOrders) {
    if (known == word) return order;
  }
  return std::nullopt;
}

std::string region_orders() {
  std::string words;
  for (const auto& [word, order] : kOrders) words += (words.empty() ? "" : ", ") + std::string(word);
  return words;
}

std::vector<RegionInfo> select(std::vector<RegionInfo> regions, const RegionFilter& filter,
                               RegionOrder order) {
  std::erase_if(regions, [&](const RegionInfo& region) { return !passes(region, filter); });
  std::stable_sort(regions.begin(), regions.end(), [order](const RegionInfo& a, const RegionInfo& b) {
    return key_of(a, order) < key_of(b, order);
  });
  return regions;
}

double used_percent(const QuotaInfo& quota) {
  return std::max({part(quota.bytes, quota.limits.bytes), part(quota.regions, quota.limits.regions),
                   part(quota.grants, quota.limits.grants),
                   part(quota.connections, quota.limits.connections)});
}

std::vector<QuotaInfo> select(std::vector<QuotaInfo> quotas, const QuotaFilter& filter) {
  std::erase_if(quotas, [&](const QuotaInfo& quota) {
    const bool whose =
        !filter.user || (quota.slot.subject == SubjectKind::user && quota.slot.id == *filter.user);
    return !whose || (filter.over_percent > 0 && used_percent(quota) <= filter.over_percent);
  });
  return quotas;
}

}  // namespace mapcap::cli
