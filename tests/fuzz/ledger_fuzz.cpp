// Arbitrary bytes as a ledger: the check and the recovery refuse or find records, the same ones, and a
// recovered ledger recovers to itself. The first byte of the input says which checksums to put right, so that
// the fuzzer gets past them.
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "broker/ledger/recovery.h"
#include "broker/ledger/table/record_layout.h"
#include "tests/support/memory_medium.h"

namespace {

using namespace mapcap;

constexpr std::uint32_t kMostSlots = 64;

void require(bool condition) {
  if (!condition) std::abort();
}

void reseal(std::vector<std::byte>& bytes, unsigned what) {
  if (bytes.size() < broker::ledger::kSlotsOffset) return;
  std::uint32_t salt = 0;
  for (std::size_t copy : {0U, 1U}) {
    const auto superblock = std::span(bytes).subspan(broker::ledger::superblock_range(copy).offset,
                                                     broker::ledger::kSuperblockSize);
    if ((what & 1U << copy) != 0) {
      const std::size_t last = broker::ledger::kSuperblockSize - 4;
      broker::ledger::save32(superblock, last, ~broker::ledger::crc32c(superblock.first(last), ~0U));
    }
    salt = broker::ledger::load32(superblock, 40);
  }
  if ((what & 4U) == 0) return;
  const std::size_t slots = std::min<std::size_t>(
      (bytes.size() - broker::ledger::kSlotsOffset) / broker::ledger::kSlotSize, kMostSlots);
  for (std::uint32_t slot = 0; slot < slots; ++slot) {
    const auto at = std::span(bytes).subspan(broker::ledger::kSlotsOffset + slot * broker::ledger::kSlotSize,
                                             broker::ledger::kSlotSize);
    const auto kind = static_cast<broker::ledger::SlotKind>(std::to_integer<std::uint8_t>(at[4]));
    const auto strength = static_cast<broker::ledger::Strength>(std::to_integer<std::uint8_t>(at[5]) & 1U);
    const broker::ledger::SlotHeader header{kind, strength, broker::ledger::load64(at, 8),
                                            broker::ledger::load64(at, 16)};
    if (kind == broker::ledger::SlotKind::tombstone) {
      broker::ledger::save64(at, 0, broker::ledger::tombstone_word(header, {salt, slot}));
    } else if (broker::ledger::load64(at, 0) != 0) {
      broker::ledger::SlotImage image;
      std::memcpy(image.data(), at.data(), image.size());
      broker::ledger::seal(image, header, {salt, slot});
      std::memcpy(at.data(), image.data(), image.size());
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const unsigned what = data[0];
  // Half of the inputs are slots below a good superblock: that part of the format is small and soon
  // understood.
  std::vector<std::byte> bytes;
  if ((what & 8U) != 0)
    bytes = test::empty_ledger(
        std::min<std::size_t>((size / broker::ledger::kSlotSize + 16) / 16 * 16, kMostSlots));
  const std::size_t from = bytes.empty() ? 0 : broker::ledger::kSlotsOffset;
  if (bytes.size() < from + size - 1 && from == 0) bytes.resize(size - 1);
  std::memcpy(bytes.data() + from, data + 1, std::min(size - 1, bytes.size() - from));
  reseal(bytes, what);

  test::MemoryMedium medium(bytes);
  const auto reading = broker::ledger::read(medium);
  require(medium.contents() == bytes);
  auto opened = broker::ledger::recover(medium);
  require(reading.has_value() == opened.has_value());
  if (!opened) {
    require(!opened.error().sentence.empty() && !reading.error().sentence.empty());
    return 0;
  }
  const auto& found = opened.value();
  require(found.recovered.regions == reading.value().regions);
  require(found.recovered.quotas.size() == reading.value().quotas.size());
  for (const auto& region : found.recovered.regions) {
    require(found.next_id > region.id.value);
    broker::ledger::SlotImage image;
    require(broker::ledger::encode(region, image).has_value());
  }
  // What was freed stays free, what was found is found again, and what is damaged goes when it is forgotten.
  const auto again = broker::ledger::recover(medium);
  require(again.has_value());
  require(again.value().recovered.regions == found.recovered.regions);
  require(again.value().recovered.quotas == found.recovered.quotas);
  require(again.value().recovered.damaged == found.recovered.damaged && again.value().recovered.stale == 0);
  const auto forgotten = broker::ledger::forget_damaged(medium);
  require(forgotten.has_value() && forgotten.value() == found.recovered.damaged);
  const auto clean = broker::ledger::recover(medium);
  require(clean.has_value() && clean.value().recovered.damaged == 0);
  require(clean.value().recovered.regions == found.recovered.regions);
  return 0;
}
