// Which regions and quotas a table shows, and in which order: what the broker told, looked at here.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mapcap/types.h"

namespace mapcap::cli {

enum class RegionOrder : std::uint8_t { name, owner, pool, size, held, created, remaining, state };
/// "name", "owner", ... Nothing for another word.
std::optional<RegionOrder> parse_region_order(std::string_view word);
/// Every word that parse_region_order knows, as a sentence lists them.
std::string region_orders();

/// Everything that is given must be met.
struct RegionFilter {
  std::optional<std::uint32_t> owner;
  std::string pool;   ///< Empty: any.
  std::string state;  ///< As to_string(RegionState), or state_text(), says it; empty: any.
};

/// Those that pass. By `order`: names, owners, pools and states ascending, sizes and what is held largest first,
/// creation latest first, what expires soonest first and what never does last. Equal ones by name.
std::vector<RegionInfo> select(std::vector<RegionInfo> regions, const RegionFilter& filter,
                               RegionOrder order);

/// The largest part of a limit that is used, in percent, over all limits that the slot has; 0 without any.
double used_percent(const QuotaInfo& quota);

struct QuotaFilter {
  std::optional<std::uint32_t> user;
  double over_percent = 0;  ///< Only slots of which more is used; 0: all.
};
std::vector<QuotaInfo> select(std::vector<QuotaInfo> quotas, const QuotaFilter& filter);

}  // namespace mapcap::cli
