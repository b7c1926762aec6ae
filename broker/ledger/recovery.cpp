#include "broker/ledger/recovery.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "broker/ledger/table/record_layout.h"

namespace mapcap::broker::ledger {

namespace {

SlotBytes slot_of(std::span<const std::byte> bytes, std::uint32_t slot) {
  return SlotBytes(bytes.subspan(kSlotsOffset + std::size_t{slot} * kSlotSize, kSlotSize));
}

/// Decodes the live records in the order of their slots; what does not decode stops being live.
void decode_live(std::span<const std::byte> bytes, Reading& reading) {
  std::vector<std::uint32_t> slots;
  slots.reserve(reading.scan.live.size());
  reading.scan.live.for_each([&](std::uint64_t, std::uint32_t slot) { slots.push_back(slot); });
  std::sort(slots.begin(), slots.end());
  for (std::uint32_t slot : slots) {
    const SlotReading found = read_slot(slot_of(bytes, slot), {reading.superblock.salt, slot});
    Result<Record> record = decode(slot_of(bytes, slot), found.header);
    if (!record) {
      reading.unreadable.push_back({slot, record.error().sentence});
      reading.scan.damaged.push_back(slot);
      reading.scan.live.erase(found.header.id);
    } else if (auto* region = std::get_if<RegionRecord>(&record.value())) {
      reading.regions.push_back(std::move(*region));
    } else {
      reading.quotas.push_back({found.header.id, std::get<QuotaRecord>(std::move(record.value()))});
    }
  }
}

/// Two overrides for one slot of the quotas: the one written last counts.
void drop_superseded_quotas(std::span<const std::byte> bytes, Reading& reading) {
  auto version = [&](std::uint64_t id) { return load64(slot_of(bytes, *reading.scan.live.find(id)), 16); };
  std::map<std::tuple<SubjectKind, std::uint32_t, std::string>, std::uint64_t> newest;
  for (const Reading::Quota& quota : reading.quotas) {
    auto [at, first] =
        newest.try_emplace({quota.record.subject, quota.record.id, quota.record.pool}, quota.id);
    if (!first && version(quota.id) > version(at->second)) at->second = quota.id;
  }
  std::erase_if(reading.quotas, [&](const Reading::Quota& quota) {
    if (newest.at({quota.record.subject, quota.record.id, quota.record.pool}) == quota.id) return false;
    reading.scan.stale.push_back(*reading.scan.live.find(quota.id));
    reading.scan.live.erase(quota.id);
    return true;
  });
}

}  // namespace

Result<Reading> read(Medium& medium) {
  Reading reading;
  const std::size_t size = medium.bytes().size();
  MAPCAP_TRY_VOID(medium.preload({0, std::min(size, kSlotsOffset)}));
  MAPCAP_TRY(const SuperblockReading found, read_superblock(medium.bytes(), medium.name()));
  reading.superblock = found.superblock;
  reading.intact = found.intact;
  const auto capacity = static_cast<std::uint32_t>(found.superblock.capacity);
  const Range slots{kSlotsOffset, std::size_t{capacity} * kSlotSize};
  MAPCAP_TRY_VOID(medium.preload(slots));
  const std::span<const std::byte> bytes = medium.bytes();
  reading.scan = scan(bytes.subspan(slots.offset, slots.size), capacity, found.superblock.salt);
  decode_live(bytes, reading);
  drop_superseded_quotas(bytes, reading);
  // The lost copy of a superblock may have been one reservation ahead of the one that is left.
  const std::uint64_t unseen = found.intact[0] && found.intact[1] ? 0 : 2 * kIdChunk;
  reading.next_id = std::max(found.superblock.next_id + unseen, reading.scan.highest_id + 1);
  return reading;
}

Result<Opened> recover(Medium& medium) {
  MAPCAP_TRY(Reading reading, read(medium));
  // After a kill the bytes may be ahead of what is durable. What is about to be reported, and acted upon,
  // must not be taken back by a power cut; and nothing may be freed on the strength of a newer version that
  // is not durable.
  medium.flush({0, kSlotsOffset + std::size_t{reading.scan.capacity} * kSlotSize}, Step::adopt);
  MAPCAP_TRY_VOID(settle(medium, Step::adopt));
  Opened opened;
  opened.superblock = reading.superblock;
  opened.intact = reading.intact;
  opened.next_id = reading.next_id;
  opened.recovered.damaged = reading.scan.damaged.size();
  opened.recovered.stale = reading.scan.stale.size() + reading.scan.tombstones.size();
  opened.recovered.regions = std::move(reading.regions);
  for (const Reading::Quota& quota : reading.quotas) opened.recovered.quotas.push_back(quota.record);
  opened.quotas = std::move(reading.quotas);
  opened.table = std::make_unique<Table>(medium, opened.superblock.salt, std::move(reading.scan));
  MAPCAP_TRY_VOID(opened.table->release_scanned());
  return opened;
}

}  // namespace mapcap::broker::ledger
