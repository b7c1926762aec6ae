// Records to slot bodies and back. FORMAT.md documents every byte.
#pragma once

#include <variant>

#include "base/result.h"
#include "broker/ledger/table/endpoint_layout.h"
#include "broker/ledger/table/record.h"
#include "broker/ledger/table/slot.h"

namespace mapcap::broker::ledger {

inline constexpr std::size_t kPoolNameLength = 23;

/// Fill the body of `image` and leave its header alone.
/// Errors: `invalid` for a name, pool name or mode that does not fit the layout.
Result<void> encode(const RegionRecord& record, SlotImage& image);
Result<void> encode(const QuotaRecord& record, SlotImage& image);

using Record = std::variant<RegionRecord, QuotaRecord, EndpointHead, EndpointText>;

/// The record of a slot that read_slot() called valid and no tombstone.
/// Errors: `invalid` for a field outside its range, naming it: the checksum holds, but no ledger of this
/// layout writes such a record.
Result<Record> decode(SlotBytes bytes, const SlotHeader& header);

}  // namespace mapcap::broker::ledger
