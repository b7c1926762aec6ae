// A ledger's medium in plain memory: nothing to wait for, nothing that fails.
#pragma once

#include <cstring>
#include <utility>
#include <vector>

#include "broker/ledger/medium.h"
#include "broker/ledger/slot.h"
#include "broker/ledger/superblock.h"

namespace mapcap::test {

/// The bytes of an empty ledger with room for `capacity` records (a multiple of 16).
inline std::vector<std::byte> empty_ledger(std::uint64_t capacity, std::uint32_t salt = 0xC0FFEE) {
  std::vector<std::byte> bytes(ledger::kSlotsOffset + capacity * ledger::kSlotSize);
  ledger::Superblock superblock;
  superblock.capacity = capacity;
  superblock.salt = salt;
  const ledger::SuperblockImage image = ledger::encode(superblock);
  for (std::size_t copy : {0U, 1U}) {
    std::memcpy(bytes.data() + ledger::superblock_range(copy).offset, image.data(), image.size());
  }
  return bytes;
}

class MemoryMedium : public ledger::Medium {
 public:
  explicit MemoryMedium(std::vector<std::byte> bytes) : bytes_(std::move(bytes)) {}

  [[nodiscard]] std::string_view name() const override { return "memory"; }
  [[nodiscard]] std::span<const std::byte> bytes() const override { return bytes_; }
  [[nodiscard]] schema::Granularity granularity() const override { return schema::Granularity::byte; }
  schema::Result<void> preload(ledger::Range) override { return schema::ok(); }
  schema::Result<void> prepare(ledger::Range) override { return schema::ok(); }
  void store(std::size_t offset, std::span<const std::byte> data) override {
    MAPCAP_INVARIANT(offset + data.size() <= bytes_.size(), "a store beyond the medium");
    std::memcpy(bytes_.data() + offset, data.data(), data.size());
  }
  void store_word(std::size_t offset, std::uint64_t word) override { ledger::save64(bytes_, offset, word); }
  void flush(ledger::Range, ledger::Step) override {}
  void fence(ledger::Step) override {}
  std::optional<ledger::Range> take_flushed() override { return std::nullopt; }
  schema::Result<void> sync(ledger::Range, ledger::Step) override { return schema::ok(); }
  void redirty() override {}
  schema::Result<void> grow(std::size_t size) override {
    grown_ = size;
    return schema::ok();
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
