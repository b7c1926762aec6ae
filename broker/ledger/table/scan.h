// Reads every slot once and tells what each is. Changes nothing: recovery and the check both start here.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "broker/ledger/table/id_map.h"

namespace mapcap::broker::ledger {

struct Scan {
  std::uint32_t capacity = 0;
  IdMap live;                        ///< Id to the slot of its newest version, unless that is a tombstone.
  std::vector<std::uint32_t> stale;  ///< Valid, but older than another slot of the same id.
  std::vector<std::uint32_t> tombstones;  ///< The newest of their ids.
  std::vector<std::uint32_t> damaged;     ///< Neither free nor valid.
  std::uint64_t highest_id = 0;
  std::uint64_t highest_version = 0;
};

/// `slots` holds `capacity` whole slots.
Scan scan(std::span<const std::byte> slots, std::uint32_t capacity, std::uint32_t salt);

}  // namespace mapcap::broker::ledger
