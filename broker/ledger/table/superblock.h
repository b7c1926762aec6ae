// What describes the whole ledger, in two copies of 4096 bytes each. FORMAT.md documents every byte.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/result.h"
#include "broker/ledger/medium/medium.h"

namespace mapcap::broker::ledger {

inline constexpr std::uint32_t kLayoutVersion = 1;
inline constexpr std::size_t kSuperblockSize = 4096;
inline constexpr std::size_t kSlotsOffset = 2 * kSuperblockSize;

struct Superblock {
  std::uint64_t sequence = 0;  ///< Of the copy with the higher one counts.
  std::uint64_t capacity = 0;  ///< Slots, a multiple of 16 (a page of slots).
  std::uint64_t next_id = 1;   ///< Ids below may have been given out; none at or above ever was.
  std::uint32_t salt = 0;      ///< Random, chosen when the ledger is made; part of every slot's checksum,
                               ///< and Ledger::identity().
  bool operator==(const Superblock&) const = default;
};

using SuperblockImage = std::array<std::byte, kSuperblockSize>;
SuperblockImage encode(const Superblock& superblock);

struct SuperblockReading {
  Superblock superblock;
  std::array<bool, 2> intact{};  ///< Which copies are valid and current.
};

/// Reads both copies. Errors: `invalid` when neither is valid, telling a foreign file, another layout
/// version, damage and truncation apart.
Result<SuperblockReading> read_superblock(std::span<const std::byte> bytes, std::string_view name);

/// Where a copy is (0 or 1).
constexpr Range superblock_range(std::size_t copy) {
  return {copy * kSuperblockSize, kSuperblockSize};
}

}  // namespace mapcap::broker::ledger
