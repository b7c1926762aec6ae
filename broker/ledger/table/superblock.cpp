#include "broker/ledger/table/superblock.h"

#include <algorithm>
#include <cstring>

#include "broker/ledger/table/slot.h"

namespace mapcap::broker::ledger {

namespace {

/// It does not know regions that were made since, and the start would remove what is nobody's.
constexpr const char* kRestore =
    "restore it from a backup, and set aside what regions made since have in their pools";

constexpr std::array<char, 8> kMagic{'m', 'a', 'p', 'c', 'a', 'p', 'L', 'G'};
constexpr std::size_t kChecksumOffset = kSuperblockSize - 4;

bool has_magic(std::span<const std::byte> copy) {
  return std::memcmp(copy.data(), kMagic.data(), kMagic.size()) == 0;
}

std::uint32_t checksum(std::span<const std::byte> copy) {
  return ~crc32c(copy.first(kChecksumOffset), ~0U);
}

bool intact(std::span<const std::byte> copy) {
  return has_magic(copy) && load32(copy, 8) == kLayoutVersion && load32(copy, 12) == kSlotSize &&
         load32(copy, kChecksumOffset) == checksum(copy);
}

Superblock decode(std::span<const std::byte> copy) {
  return {load64(copy, 16), load64(copy, 24), load64(copy, 32), load32(copy, 40)};
}

}  // namespace

SuperblockImage encode(const Superblock& superblock) {
  SuperblockImage image{};
  std::memcpy(image.data(), kMagic.data(), kMagic.size());
  save32(image, 8, kLayoutVersion);
  save32(image, 12, kSlotSize);
  save64(image, 16, superblock.sequence);
  save64(image, 24, superblock.capacity);
  save64(image, 32, superblock.next_id);
  save32(image, 40, superblock.salt);
  save32(image, kChecksumOffset, checksum(image));
  return image;
}

Result<SuperblockReading> read_superblock(std::span<const std::byte> bytes, std::string_view name) {
  const std::string file(name);
  if (bytes.size() < kSlotsOffset) {
    return failure(ErrorCode::invalid, "the ledger " + file + " is " + std::to_string(bytes.size()) +
                                           " bytes long, too short for any ledger: " + kRestore +
                                           ", or move it away "
                                           "to start with an empty one");
  }
  const std::array copies{bytes.subspan(0, kSuperblockSize), bytes.subspan(kSuperblockSize, kSuperblockSize)};
  SuperblockReading reading;
  std::array<Superblock, 2> found;
  for (std::size_t i = 0; i < copies.size(); ++i) {
    reading.intact[i] = intact(copies[i]);
    if (reading.intact[i]) found[i] = decode(copies[i]);
  }
  if (!reading.intact[0] && !reading.intact[1]) {
    for (const auto& copy : copies) {
      if (has_magic(copy) && load32(copy, 8) != kLayoutVersion &&
          load32(copy, kChecksumOffset) == checksum(copy)) {
        return failure(ErrorCode::invalid,
                       "the ledger " + file + " has layout version " + std::to_string(load32(copy, 8)) +
                           ", this broker reads version " + std::to_string(kLayoutVersion) +
                           ": start the broker that wrote it");
      }
    }
    if (has_magic(copies[0]) || has_magic(copies[1])) {
      return failure(ErrorCode::invalid, "both superblocks of the ledger " + file +
                                             " are damaged or of an unknown version: " + kRestore);
    }
    return failure(ErrorCode::invalid,
                   file + " is not a mapcap ledger: name another path, or move the file away");
  }
  const bool second = !reading.intact[0] || (reading.intact[1] && found[1].sequence > found[0].sequence);
  reading.superblock = found[second ? 1 : 0];
  // A copy that lags behind is as good as damaged: the other must stay until this one is written again.
  for (std::size_t i = 0; i < copies.size(); ++i) {
    reading.intact[i] = reading.intact[i] && found[i] == reading.superblock;
  }
  const std::uint64_t slots = (bytes.size() - kSlotsOffset) / kSlotSize;
  const std::uint64_t capacity = reading.superblock.capacity;
  if (capacity == 0 || capacity % 16 != 0 || capacity > 0xFFFFFFF0U) {
    return failure(ErrorCode::invalid, "the superblock of the ledger " + file + " gives it " +
                                           std::to_string(capacity) +
                                           " slots, which no ledger has: " + kRestore);
  }
  if (capacity > slots) {
    return failure(ErrorCode::invalid, "the ledger " + file + " is truncated: it has room for " +
                                           std::to_string(slots) + " records and its superblock promises " +
                                           std::to_string(capacity) + ": " + kRestore +
                                           "; opening it would forget regions");
  }
  return reading;
}

}  // namespace mapcap::broker::ledger
