#include "broker/ledger/table/scan.h"

#include <algorithm>

#include "broker/ledger/table/slot.h"

namespace mapcap::broker::ledger {

Scan scan(std::span<const std::byte> slots, std::uint32_t capacity, std::uint32_t salt) {
  Scan found;
  found.capacity = capacity;
  auto at = [&](std::uint32_t slot) {
    return SlotBytes(slots.subspan(std::size_t{slot} * kSlotSize, kSlotSize));
  };
  // One slot in 64 tells how full the table is: the map need not grow step by step under a million records.
  std::size_t sampled = 0;
  for (std::uint32_t slot = 0; slot < capacity; slot += 64) sampled += load64(at(slot), 0) != 0 ? 64U : 0U;
  found.live.reserve(sampled);
  for (std::uint32_t slot = 0; slot < capacity; ++slot) {
    const SlotReading reading = read_slot(at(slot), {salt, slot});
    if (reading.state == SlotState::free) continue;
    if (reading.state == SlotState::damaged) {
      found.damaged.push_back(slot);
      continue;
    }
    const std::uint64_t id = reading.header.id;
    const std::uint64_t version = reading.header.version;
    found.highest_id = std::max(found.highest_id, id);
    found.highest_version = std::max(found.highest_version, version);
    if (reading.header.kind == SlotKind::tombstone) found.tombstones.push_back(slot);
    const std::optional<std::uint32_t> other = found.live.find(id);
    if (!other) {
      found.live.set(id, slot);
    } else if (load64(at(*other), 16) < version) {
      found.stale.push_back(*other);
      found.live.set(id, slot);
    } else {
      found.stale.push_back(slot);
    }
  }
  // Few, so that the slots need not be read a second time, in the order of the map.
  std::erase_if(found.tombstones,
                [&](std::uint32_t slot) { return found.live.find(load64(at(slot), 8)) != slot; });
  for (std::uint32_t slot : found.tombstones) found.live.erase(load64(at(slot), 8));
  return found;
}

}  // namespace mapcap::broker::ledger
