// The `dax-device` pool of a region that the broker divides by itself: it makes a device for each region of
// memory that is asked for, and takes it away again when the last holder is gone.
//
//     carve   make the device, look for bad blocks, scrub                      (a broker that dies: no record
//     names free    disable and destroy the device                                    it, so the next one's
//     sweep destroys it)
//
// What a device held is still there for the next one in its place: so each is scrubbed before it is granted,
// and nothing depends on what was scrubbed after. Devices are never rebound: old descriptors would come back
// to life.
#pragma once

#include <memory>
#include <string>
#include <variant>

#include "broker/bpf/device_holders/device_holders.h"
#include "broker/pool/devices/divider.h"
#include "broker/pool/pool.h"

namespace mapcap::broker::pool {

struct DaxRegionOptions {
  std::string name;
  std::string region;                                      ///< For sentences.
  std::uint32_t ledger = 0;                                ///< Ledger::identity().
  std::variant<std::uint32_t, ByteCount> capacity = 100U;  ///< Percent of the region, or bytes.
  std::shared_ptr<device_holders::Census> census;
  std::optional<std::chrono::nanoseconds> end_holders_after = {};  ///< As in Facts.
  CacheReader cache_reader = {};  ///< Used for each new device; may be empty.
  bool may_return = false;        ///< As in Facts.
};

std::unique_ptr<Pool> make_dax_region(DaxRegionOptions options, std::unique_ptr<Divider> divider,
                                      const Durability& durability);

/// `region`: "region0" of an NVDIMM (ndctl), or "0" of dax (daxctl). Errors: those of the dividers, `invalid`
/// for another name, `unsupported` without a census: nobody would ever know when a device may be destroyed.
Result<std::unique_ptr<Pool>> open_dax_region(DaxRegionOptions options);

}  // namespace mapcap::broker::pool
