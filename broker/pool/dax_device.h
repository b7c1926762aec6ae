// The `dax-device` pool: device-DAX nodes that the policy lists, one region each. They are mmap-only by
// nature, and MAP_SYNC is theirs.
//
// A device may go to its next tenant only when nobody has it open. The kernel counts that for all device-DAX
// files together (/sys/module/device_dax/refcnt), so while any is open anywhere, regions that were revoked
// stay quarantined.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "broker/pool/pool.h"

namespace mapcap::broker::pool {

struct DaxDeviceOptions {
  std::string name;
  std::vector<std::string> devices;  ///< "/dev/dax0.0"
};

/// Errors: `not_found` (no such node), `invalid` (not a device-DAX node, or not root's alone), `io`.
schema::Result<std::unique_ptr<Pool>> open_dax_device(const DaxDeviceOptions& options);

}  // namespace mapcap::broker::pool
