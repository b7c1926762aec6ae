// How durable a region's record must be.
#pragma once

#include "broker/ledger/ledger.h"

namespace mapcap::broker::ledger {

/// A record outlives what its memory outlives: the broker, or a power cut.
inline Strength strength_of(const RegionRecord& record) {
  return record.volatile_memory ? Strength::process : Strength::power;
}

}  // namespace mapcap::broker::ledger
