// A ledger's medium in plain memory: nothing to wait for, nothing that fails.
#pragma once

#include <cstring>
#include <utility>
#include <vector>

#include "broker/ledger/medium/medium.h"
#include "broker/ledger/table/slot.h"
#include "broker/ledger/table/superblock.h"

namespace mapcap::test {

/// The bytes of an empty ledger with room for `capacity` records (a multiple of 16).
inline std::vector<std::byte> empty_ledger(std::uint64_t capacity, std::uint32_t salt = 0xC0FFEE) {
  std::vector<std::byte> bytes(broker::ledger::kSlotsOffset + capacity * broker::ledger::kSlotSize);
  broker::ledger::Superblock superblock;
  superblock.capacity = capacity;
  superblock.salt = salt;
  const broker::ledger::SuperblockImage image = broker::ledger::encode(superblock);
  for (std::size_t copy : {0U, 1U}) {
    std::memcpy(bytes.data() + broker::ledger::superblock_range(copy).offset, image.data(), image.size());
  }
  return bytes;
}

class MemoryMedium : public broker::ledger::Medium {
 public:
  explicit MemoryMedium(std::vector<std::byte> bytes) : bytes_(std::move(bytes)) {}

  [[nodiscard]] std::string_view name() const override { return "memory"; }
  [[nodiscard]] std::span<const std::byte> bytes() const override { return bytes_; }
  [[nodiscard]] Granularity granularity() const override { return Granularity::byte; }
  Result<void> preload(broker::ledger::Range) override { return ok(); }
  Result<void> prepare(broker::ledger::Range) override { return ok(); }
  void store(std::size_t offset, std::span<const std::byte> data) override {
    MAPCAP_INVARIANT(offset + data.size() <= bytes_.size(), "a store beyond the medium");
    std::memcpy(bytes_.data() + offset, data.data(), data.size());
  }
  void store_word(std::size_t offset, std::uint64_t word) override {
    broker::ledger::save64(bytes_, offset, word);
  }
  void flush(broker::ledger::Range, broker::ledger::Step) override {}
  void fence(broker::ledger::Step) override {}
  std::optional<broker::ledger::Range> take_flushed() override { return std::nullopt; }
  Result<void> sync(broker::ledger::Range, broker::ledger::Step) override { return ok(); }
  void redirty() override {}
  Result<void> grow(std::size_t size) override {
    grown_ = size;
    return ok();
  }
  void adopt_growth() override {
    if (grown_ > bytes_.size()) bytes_.resize(grown_);
  }

  /// For a test that plays power cut: other contents.
  std::vector<std::byte>& contents() { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
  std::size_t grown_ = 0;
};

}  // namespace mapcap::test
