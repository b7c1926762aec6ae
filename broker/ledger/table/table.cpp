#include "broker/ledger/table/table.h"

namespace mapcap::broker::ledger {

Table::Table(Medium& medium, std::uint32_t salt, Scan scan)
    : medium_(medium),
      salt_(salt),
      capacity_(scan.capacity),
      next_version_(scan.highest_version + 1),
      live_(std::move(scan.live)),
      stale_(std::move(scan.stale)),
      dead_(std::move(scan.tombstones)) {
  std::vector<bool> used(capacity_);
  for (std::uint32_t slot : scan.damaged) used[slot] = true;  // Until forget_damaged().
  live_.for_each([&](std::uint64_t, std::uint32_t slot) { used[slot] = true; });
  for (std::uint32_t slot : stale_) used[slot] = true;
  for (std::uint32_t slot : dead_) used[slot] = true;
  free_.resize(capacity_);
  for (std::uint32_t slot = 0; slot < capacity_; ++slot) {
    if (!used[slot]) free_.insert(slot);
  }
}

Result<void> Table::release_scanned() {
  for (std::uint32_t slot : stale_) release(slot, Strength::power, Step::recovery_release);
  if (!dead_.empty()) {
    // A tombstone stays until every version below it is durably gone.
    if (!stale_.empty()) {
      MAPCAP_TRY_VOID(settle(medium_, Step::recovery_release));
    }
    for (std::uint32_t slot : dead_) release(slot, Strength::power, Step::recovery_release);
  }
  stale_ = {};
  dead_ = {};
  return ok();
}

SlotBytes Table::at(std::uint32_t slot) const {
  return SlotBytes(medium_.bytes().subspan(offset_of(slot), kSlotSize));
}

Strength Table::recorded(std::uint32_t slot) const {
  return static_cast<Strength>(std::to_integer<std::uint8_t>(at(slot)[5]));
}

void Table::promote() {
  // Where the older versions were is not remembered, so all of it: a region never does this in its life.
  medium_.flush({kSlotsOffset, std::size_t{capacity_} * kSlotSize}, Step::promotion);
}

void Table::release(std::uint32_t slot, Strength strength, Step step) {
  medium_.store_word(offset_of(slot), 0);
  if (strength == Strength::power) medium_.flush({offset_of(slot), sizeof(std::uint64_t)}, step);
  free_.insert(slot);
}

Result<std::optional<Table::Put>> Table::begin_put(SlotImage& image, SlotKind kind, std::uint64_t id,
                                                   Strength strength) {
  MAPCAP_INVARIANT(id != 0, "a record without an id");
  const std::optional<std::uint32_t> old = live_.find(id);
  if (!has_room_for(id)) return std::optional<Put>();
  const Strength needed = old ? std::max(strength, recorded(*old)) : strength;
  const std::uint32_t slot = needed == Strength::power ? *free_.lowest() : *free_.highest();
  const Range range{offset_of(slot), kSlotSize};
  MAPCAP_TRY_VOID(medium_.prepare(range));
  if (old && recorded(*old) < needed) promote();
  free_.erase(slot);
  seal(image, {kind, needed, id, next_version_++}, seed(slot));
  // Body first: a kill between the two stores leaves the slot free.
  const std::span<const std::byte> bytes(image);
  medium_.store(range.offset + 8, bytes.subspan(8));
  medium_.store_word(range.offset, load64(bytes, 0));
  if (needed == Strength::power) medium_.flush(range, Step::record);
  return std::optional<Put>(Put{id, slot, old, needed});
}

void Table::finish(const Put& put) {
  live_.set(put.id, put.slot);
  if (put.old) release(*put.old, put.strength, Step::release);
}

void Table::undo(const Put& put) {
  // Only a failed sync leads here, and the next sync covers all of what the failed one did (Step::retry), so
  // whatever this slot holds by then takes the refused record's place. Free at once: a disk that keeps
  // failing must not use the table up.
  medium_.store_word(offset_of(put.slot), 0);
  free_.insert(put.slot);
}

Result<std::optional<Table::Erase>> Table::begin_erase(std::uint64_t id, Strength strength) {
  const std::optional<std::uint32_t> slot = live_.find(id);
  if (!slot) return std::optional<Erase>();
  const Range word{offset_of(*slot), sizeof(std::uint64_t)};
  MAPCAP_TRY_VOID(medium_.prepare(word));
  const Erase erase{id, *slot, load64(at(*slot), 0), std::max(strength, recorded(*slot))};
  if (recorded(*slot) < erase.strength) promote();
  if (erase.strength == Strength::power) {
    const SlotHeader header{SlotKind::tombstone, erase.strength, id, load64(at(*slot), 16)};
    medium_.store_word(word.offset, tombstone_word(header, seed(*slot)));
    medium_.flush(word, Step::tombstone);
  }
  return std::optional<Erase>(erase);
}

void Table::finish(const Erase& erase) {
  live_.erase(erase.id);
  release(erase.slot, erase.strength, Step::release);
}

void Table::undo(const Erase& erase) {
  medium_.store_word(offset_of(erase.slot), erase.word);
}

void Table::extend(std::uint32_t capacity) {
  free_.resize(capacity);
  for (std::uint32_t slot = capacity_; slot < capacity; ++slot) free_.insert(slot);
  capacity_ = capacity;
}

}  // namespace mapcap::broker::ledger
