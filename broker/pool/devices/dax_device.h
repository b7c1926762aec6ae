// The `dax-device` pool of devices that the policy lists: device-DAX nodes, one region each. They are
// mmap-only by nature, and MAP_SYNC is theirs. For regions that the broker divides by itself see
// dax_region.h.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "broker/bpf/device_holders/device_holders.h"
#include "broker/pool/pool.h"

namespace mapcap::broker::pool {

struct DaxDeviceOptions {
  std::string name;
  std::vector<std::string> devices;  ///< "/dev/dax0.0"
  /// Nothing: a device that was granted once is not granted again before the next boot.
  std::shared_ptr<device_holders::Census> census;
  std::optional<std::chrono::nanoseconds> end_holders_after = {};  ///< As in Facts.
  CacheReader cache_reader = {};                                   ///< May be empty.
};

/// Errors: those of read_dax_node.
Result<std::unique_ptr<Pool>> open_dax_device(const DaxDeviceOptions& options);

}  // namespace mapcap::broker::pool
