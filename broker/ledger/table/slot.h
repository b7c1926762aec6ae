// One 256-byte slot of the table: its header, its checksum, and how to tell a record from a torn one.
//
// The first 8-byte word holds checksum and kind, so one atomic store of that word frees a slot (0) or turns a
// record into a tombstone. FORMAT.md documents every byte.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "broker/ledger/table/record.h"

namespace mapcap::broker::ledger {

inline constexpr std::size_t kSlotSize = 256;
inline constexpr std::size_t kSlotHeader = 24;  ///< Word 0, id, version.

using SlotBytes = std::span<const std::byte, kSlotSize>;
/// A slot in preparation: the body is the caller's, the header is filled by seal().
using SlotImage = std::array<std::byte, kSlotSize>;

/// Codes that differ from each other in two bits and from 0 in three: no single flipped bit makes one from
/// another.
enum class SlotKind : std::uint8_t {
  quota = 0x51,
  region = 0x52,
  tombstone = 0x54,
  endpoint = 0x57,
  endpoint_text = 0x58,
};

/// Mixed into every checksum: the ledger's own random word and the slot's position, so that a record is valid
/// only in the place that it was written to.
struct SlotSeed {
  std::uint32_t salt = 0;
  std::uint32_t slot = 0;
};

struct SlotHeader {
  SlotKind kind = SlotKind::tombstone;
  Strength strength = Strength::process;
  std::uint64_t id = 0;       ///< Never 0 in a valid slot.
  std::uint64_t version = 0;  ///< Grows with every record written to this ledger.
};

enum class SlotState : std::uint8_t { free, valid, damaged };
struct SlotReading {
  SlotState state = SlotState::free;
  SlotHeader header;  ///< Only when valid.
};

/// Little-endian access to a field at a fixed offset.
std::uint64_t load64(std::span<const std::byte> bytes, std::size_t offset);
std::uint32_t load32(std::span<const std::byte> bytes, std::size_t offset);
std::uint16_t load16(std::span<const std::byte> bytes, std::size_t offset);
void save64(std::span<std::byte> bytes, std::size_t offset, std::uint64_t value);
void save32(std::span<std::byte> bytes, std::size_t offset, std::uint32_t value);
void save16(std::span<std::byte> bytes, std::size_t offset, std::uint16_t value);

/// CRC-32C (Castagnoli) of `bytes`, continuing from `state`.
std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t state);

/// Fills the header of an image whose body is complete.
void seal(SlotImage& image, const SlotHeader& header, SlotSeed seed);
/// The word 0 that turns the record with this header into a tombstone.
std::uint64_t tombstone_word(const SlotHeader& header, SlotSeed seed);
SlotReading read_slot(SlotBytes bytes, SlotSeed seed);

}  // namespace mapcap::broker::ledger
