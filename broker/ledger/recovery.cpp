#include "broker/ledger/recovery.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

#include "broker/ledger/table/record_layout.h"

namespace mapcap::broker::ledger {

namespace {

SlotBytes slot_of(std::span<const std::byte> bytes, std::uint32_t slot) {
  return SlotBytes(bytes.subspan(kSlotsOffset + std::size_t{slot} * kSlotSize, kSlotSize));
}

/// An endpoint is there when its head is, which is written last and erased first. Text without a head is of one
/// that was on its way, or gone: it is freed. A head without all of its text is damaged.
class Endpoints {
 public:
  void add(EndpointHead head) { heads_.push_back(std::move(head)); }
  void add(std::uint64_t id, EndpointText text) {
    const auto [at, first] = texts_.try_emplace({text.endpoint, text.index}, id, std::move(text.text));
    if (!first) surplus_.push_back(id);
  }

  void join(Reading& reading) {
    for (EndpointHead& head : heads_) {
      if (Result<Reading::Endpoint> whole = take(head); whole) {
        reading.endpoints.push_back(std::move(whole.value()));
      } else {
        const std::uint32_t slot = *reading.scan.live.find(head.record.number);
        reading.unreadable.push_back({slot, whole.error().sentence});
        reading.scan.damaged.push_back(slot);
        reading.scan.live.erase(head.record.number);
      }
    }
    for (const auto& [key, text] : texts_) surplus_.push_back(text.first);
    for (const std::uint64_t id : surplus_) {
      reading.scan.stale.push_back(*reading.scan.live.find(id));
      reading.scan.live.erase(id);
    }
  }

 private:
  Result<Reading::Endpoint> take(EndpointHead& head) {
    Reading::Endpoint endpoint;
    std::string text;
    for (std::size_t i = 0; i < texts_for(head.text_bytes); ++i) {
      const auto found = texts_.find({head.record.number, static_cast<std::uint8_t>(i)});
      if (found == texts_.end())
        return failure(ErrorCode::invalid, "part " + std::to_string(i) + " of its text is missing");
      text += found->second.second;
      endpoint.texts.push_back(found->second.first);
    }
    if (text.size() != head.text_bytes)
      return failure(ErrorCode::invalid, "its text has another length than it says");
    MAPCAP_TRY_VOID(read_text(text, head.record));
    for (std::size_t i = 0; i < endpoint.texts.size(); ++i)
      texts_.erase({head.record.number, static_cast<std::uint8_t>(i)});
    endpoint.record = std::move(head.record);
    return endpoint;
  }

  std::vector<EndpointHead> heads_;
  std::vector<std::uint64_t> surplus_;
  std::map<std::pair<std::uint64_t, std::uint8_t>, std::pair<std::uint64_t, std::string>> texts_;
};

/// Decodes the live records in the order of their slots; what does not decode stops being live.
void decode_live(std::span<const std::byte> bytes, Reading& reading) {
  Endpoints endpoints;
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
    } else if (auto* quota = std::get_if<QuotaRecord>(&record.value())) {
      reading.quotas.push_back({found.header.id, std::move(*quota)});
    } else if (auto* head = std::get_if<EndpointHead>(&record.value())) {
      endpoints.add(std::move(*head));
    } else {
      endpoints.add(found.header.id, std::get<EndpointText>(std::move(record.value())));
    }
  }
  endpoints.join(reading);
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
  for (const Reading::Endpoint& endpoint : reading.endpoints)
    opened.recovered.endpoints.push_back(endpoint.record);
  opened.endpoints = std::move(reading.endpoints);
  opened.table = std::make_unique<Table>(medium, opened.superblock.salt, std::move(reading.scan));
  MAPCAP_TRY_VOID(opened.table->release_scanned());
  return opened;
}

}  // namespace mapcap::broker::ledger
