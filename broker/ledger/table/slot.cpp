#include "broker/ledger/table/slot.h"

#include <isa-l/crc.h>

#include <bit>
#include <cstring>

namespace mapcap::broker::ledger {

static_assert(std::endian::native == std::endian::little,
              "the layout is little-endian and is mapped as it is");

namespace {

template <typename T>
T load(std::span<const std::byte> bytes, std::size_t offset) {
  T value = 0;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}

template <typename T>
void save(std::span<std::byte> bytes, std::size_t offset, T value) {
  std::memcpy(bytes.data() + offset, &value, sizeof value);
}

// A checksum over equal bytes differs whenever its initial state does, so the seed costs no extra bytes to
// hash.
std::uint32_t initial_state(SlotSeed seed) {
  return ~(seed.salt ^ (seed.slot * 0x9E3779B1U));
}

std::uint32_t record_checksum(std::span<const std::byte> slot, SlotSeed seed) {
  return ~crc32c(slot.subspan(4), initial_state(seed));
}

// A tombstone covers kind, id and version only: the body is what is left of the record.
std::uint32_t tombstone_checksum(std::span<const std::byte> header, SlotSeed seed) {
  return ~crc32c(header.subspan(4, kSlotHeader - 4), initial_state(seed));
}

}  // namespace

std::uint64_t load64(std::span<const std::byte> bytes, std::size_t offset) {
  return load<std::uint64_t>(bytes, offset);
}
std::uint32_t load32(std::span<const std::byte> bytes, std::size_t offset) {
  return load<std::uint32_t>(bytes, offset);
}
std::uint16_t load16(std::span<const std::byte> bytes, std::size_t offset) {
  return load<std::uint16_t>(bytes, offset);
}
void save64(std::span<std::byte> bytes, std::size_t offset, std::uint64_t value) {
  save(bytes, offset, value);
}
void save32(std::span<std::byte> bytes, std::size_t offset, std::uint32_t value) {
  save(bytes, offset, value);
}
void save16(std::span<std::byte> bytes, std::size_t offset, std::uint16_t value) {
  save(bytes, offset, value);
}

std::uint32_t crc32c(std::span<const std::byte> bytes, std::uint32_t state) {
  // SAFETY: crc32_iscsi only reads; its prototype lacks the const.
  auto* data = reinterpret_cast<unsigned char*>(const_cast<std::byte*>(bytes.data()));
  return ::crc32_iscsi(data, static_cast<int>(bytes.size()), state);
}

namespace {

void write_header(std::span<std::byte> bytes, const SlotHeader& header) {
  save32(bytes, 4,
         static_cast<std::uint32_t>(header.kind) | static_cast<std::uint32_t>(header.strength) << 8U);
  save64(bytes, 8, header.id);
  save64(bytes, 16, header.version);
}

}  // namespace

void seal(SlotImage& image, const SlotHeader& header, SlotSeed seed) {
  write_header(image, header);
  save32(image, 0, record_checksum(image, seed));
}

std::uint64_t tombstone_word(const SlotHeader& header, SlotSeed seed) {
  std::array<std::byte, kSlotHeader> bytes{};
  SlotHeader tombstone = header;
  tombstone.kind = SlotKind::tombstone;
  write_header(bytes, tombstone);
  save32(bytes, 0, tombstone_checksum(bytes, seed));
  return load64(bytes, 0);
}

SlotReading read_slot(SlotBytes bytes, SlotSeed seed) {
  const std::uint64_t word = load64(bytes, 0);
  if (word == 0) return {SlotState::free, {}};
  const auto kind = static_cast<SlotKind>(word >> 32U & 0xFFU);
  const auto strength = word >> 40U;  // Bytes 5 to 7: strength, zero, zero.
  SlotReading reading{SlotState::damaged, {kind, Strength::process, load64(bytes, 8), load64(bytes, 16)}};
  if (strength > static_cast<std::uint64_t>(Strength::power) || reading.header.id == 0) return reading;
  reading.header.strength = static_cast<Strength>(strength);
  const auto stored = static_cast<std::uint32_t>(word);
  if (kind == SlotKind::region || kind == SlotKind::quota || kind == SlotKind::endpoint ||
      kind == SlotKind::endpoint_text) {
    if (stored == record_checksum(bytes, seed)) reading.state = SlotState::valid;
  } else if (kind == SlotKind::tombstone) {
    if (stored == tombstone_checksum(bytes, seed)) reading.state = SlotState::valid;
  }
  return reading;
}

}  // namespace mapcap::broker::ledger
