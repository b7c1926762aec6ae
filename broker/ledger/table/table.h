// The table of slots on a medium: which are free, which holds the newest version of what, and how one change
// after another goes through it so that a crash at any store leaves the state before or after.
//
// A put stores a new version into a free slot, and once that is durable zeroes the first word of the old one.
// An erase turns the record into a tombstone by one word, and once that is durable zeroes it. The tombstone
// is needed because an older version may have been zeroed without that zero being durable yet: pages and
// cache lines reach the medium in any order, and the old version must not come back after the newest is gone.
// Zeroes are flushed when they are stored and become durable with the next commit, whoever waits for it. A
// freed slot may be used again at once: whatever of it a power cut brings back is superseded or erased by
// what was durable before it was freed, or is torn.
//
// A record has a strength. At process strength (regions whose memory dies with the machine anyway) program
// order is all that matters and nothing is flushed. Once an id has been written at power strength, all its
// changes are at power strength: otherwise a power cut could take the durable old version away and not bring
// the new one.
//
// Power-strength records fill the table from below and process-strength records from above, so that what an
// msync covers does not fill up with pages that need none.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "broker/ledger/medium/medium.h"
#include "broker/ledger/table/scan.h"
#include "broker/ledger/table/slot.h"
#include "broker/ledger/table/slot_set.h"
#include "broker/ledger/table/superblock.h"

namespace mapcap::broker::ledger {

class Table {
 public:
  /// Takes over what a scan of the same medium found. The medium must outlive the table.
  Table(Medium& medium, std::uint32_t salt, Scan scan);

  /// Frees what the scan called stale or dead. Blocks. To be called once, when all that the scan saw
  /// is durable. Errors: `io`.
  Result<void> release_scanned();

  /// A change that is stored and waits to be durable. Exactly one of finish() and undo() follows.
  struct Put {
    std::uint64_t id = 0;
    std::uint32_t slot = 0;
    std::optional<std::uint32_t> old;
    Strength strength = Strength::process;  ///< What it really needs; process: finish() may follow at once.
  };
  struct Erase {
    std::uint64_t id = 0;
    std::uint32_t slot = 0;
    std::uint64_t word = 0;  ///< Word 0 of the record.
    Strength strength = Strength::process;
  };

  /// Whether a change of this id finds a slot. The last free slots are kept for ids that are recorded
  /// already: in a table that is full and cannot grow, a region can still be revoked, which begins with a
  /// change.
  [[nodiscard]] bool has_room_for(std::uint64_t id) const {
    return free_.size() > (live_.find(id) ? 0U : reserve());
  }

  /// Stores a new version. The body of `image` is complete, its header is filled here. Empty: there is no
  /// room for it. One change of an id at a time. Errors: `io`, when the medium cannot take stores; then
  /// nothing was stored.
  Result<std::optional<Put>> begin_put(SlotImage& image, SlotKind kind, std::uint64_t id, Strength strength);
  void finish(const Put& put);
  void undo(const Put& put);

  /// Empty: there is no such record. Needs no free slot. Errors: as begin_put.
  Result<std::optional<Erase>> begin_erase(std::uint64_t id, Strength strength);
  void finish(const Erase& erase);
  void undo(const Erase& erase);

  /// The medium has grown, and the superblock says so.
  void extend(std::uint32_t capacity);

  [[nodiscard]] std::uint32_t capacity() const { return capacity_; }
  [[nodiscard]] std::uint32_t free_slots() const { return free_.size(); }
  [[nodiscard]] std::size_t records() const { return live_.size(); }

 private:
  /// Slots for changes: as many as may be under way at once, of small tables less.
  [[nodiscard]] std::uint32_t reserve() const { return std::clamp(capacity_ / 32, 1U, 64U); }
  [[nodiscard]] static std::size_t offset_of(std::uint32_t slot) {
    return kSlotsOffset + std::size_t{slot} * kSlotSize;
  }
  [[nodiscard]] SlotBytes at(std::uint32_t slot) const;
  [[nodiscard]] SlotSeed seed(std::uint32_t slot) const { return {salt_, slot}; }
  /// What the record in `slot` was written at.
  [[nodiscard]] Strength recorded(std::uint32_t slot) const;
  /// A record of process strength is about to change at power strength: flushes what its past left behind.
  void promote();
  void release(std::uint32_t slot, Strength strength, Step step);

  Medium& medium_;
  std::uint32_t salt_;
  std::uint32_t capacity_;
  std::uint64_t next_version_;
  IdMap live_;
  SlotSet free_;
  std::vector<std::uint32_t> stale_;
  std::vector<std::uint32_t> dead_;
};

}  // namespace mapcap::broker::ledger
