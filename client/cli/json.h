// The same values for programs. One line on stdout; sizes are bytes, times nanoseconds, absent values null.
// nlohmann-json is in json_line.h, json.cpp and json_policy.cpp only.
#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "mapcap/client.h"

namespace mapcap::policy {
struct Problem;
struct Difference;
}  // namespace mapcap::policy

namespace mapcap::cli {

std::string json(const RegionInfo& region);
std::string json(const std::vector<RegionInfo>& regions);
std::string json(const RegionDetails& details);
std::string json(const std::vector<RegionDetails>& many);
std::string json(const std::vector<PoolInfo>& pools);
std::string json(const std::vector<QuotaInfo>& quotas);
std::string json(const Limits& limits);
std::string json(const Revoked& revoked);
std::string json(const BrokerStatus& status);
/// ended: false when the regions stay with the keeper.
std::string json(const ShutdownResult& result, bool ended);
std::string json(const Error& error);
std::string json(const EndpointInfo& endpoint);
std::string json(const std::vector<EndpointInfo>& endpoints);
std::string json(const EndpointEnded& ended);

/// The outcome of fill and dump. persisted: "none" for volatile memory and for dump.
struct Copied {
  std::string name;
  std::uint64_t bytes = 0;
  std::uint64_t size = 0;
  Granularity persisted = Granularity::none;
  bool published = false;
};
std::string json(const Copied& copied);

/// A flat object of texts.
std::string json_object(const std::vector<std::pair<std::string, std::string>>& members);

struct Finding;
std::string json(const std::vector<Finding>& findings);

/// Of one policy file: {file, line, column, severity, message} each.
std::string json(const std::string& file, const std::vector<policy::Problem>& problems);

/// Refused: what the same file's check says.
std::string json(const ReloadOutcome& outcome);
std::string json(const PolicyInForce& policy);
std::string json(const std::vector<policy::Difference>& differences);

/// An option that was not given, and what was judged in its place; empty: nothing.
struct LeftOpen {
  std::string option;
  std::string taken;
  std::string why;
};
std::string json(const PolicyQuestion& question, const PolicyAnswer& answer,
                 const std::vector<LeftOpen>& open);

}  // namespace mapcap::cli
