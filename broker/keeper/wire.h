// What broker and keeper say to each other: plain structs, one a packet, over SOCK_SEQPACKET on one machine.
//
// Both ends are root and usually the same binary, but either may be older than the other: change kVersion
// with anything here or in the issuing page that an older one would misread. What a keeper may be asked for
// beyond that it says in its welcome (kHoldsMany), which older ones leave zero.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "mapcap/fd.h"
#include "schema/channel.h"

namespace mapcap::broker::keeper::wire {

inline constexpr std::uint32_t kVersion = 2;
inline constexpr std::size_t kMaxPacket = 64U << 10U;
inline constexpr std::size_t kMaxPacketToKeeper = 4096;
inline constexpr std::size_t kFdsPerPacket = 250;  ///< The kernel's limit is 253 (SCM_MAX_FD).
inline constexpr std::size_t kRegionsPerPacket = 500;
inline constexpr std::size_t kEntriesPerPacket = 2000;  ///< 32 bytes each at most: stays below kMaxPacket.

enum class Kind : std::uint32_t {
  // broker to keeper
  adopt = 1,           ///< [+ a fresh /dev/fuse to clone the connection onto] value: kVersion.
  hold = 2,            ///< + the memory. region.
  drop = 3,            ///< region.
  backed = 4,          ///< region; value: its backing id.
  unbacked = 5,        ///< region.
  root = 6,            ///< + an O_PATH fd of the filesystem's root.
  ping = 7,            ///< value comes back in pong.
  end = 8,             ///< Let go of everything and exit.
  hold_many = 9,       ///< value: number of u64 region ids; + their memory. Where kHoldsMany was told.
  published = 10,      ///< region; value: since when, ns since 1970. Where kTellsPublished was told.
  labels = 11,         ///< + a LabelBoard, for this broker's blanks. Where kKnowsBlanks was told.
  named = 12,          ///< There are labels on it to be taken. The same.
  drop_many = 13,      ///< value: number of u64 region ids: drop of each. Where kForgetsMany was told.
  unbacked_many = 14,  ///< The same of unbacked.
  // keeper to broker
  welcome = 100,   ///< + issuing page [+ root]. region: kVersion; abilities: its own; Welcome follows.
  busy = 101,      ///< value: the pid of the broker that is connected.
  memory = 102,    ///< value: number of MemoryEntry; + a descriptor for each that has one.
  grants = 103,    ///< value: number of GrantEntry.
  listed = 104,    ///< All memory and grants were told.
  released = 105,  ///< value: number of u64 grant ids.
  pong = 106,      ///< value: the ping's.
  ended = 107,     ///< The FUSE connection is gone; memory is still held.
  names = 108,     ///< value: number of names, a NUL after each. At an adoption, where kTakesNames was told.
};

/// What a keeper can do that an older one of the same version cannot: bits in its welcome's Head::abilities.
inline constexpr std::uint32_t kHoldsMany = 1;
inline constexpr std::uint32_t kTellsPublished = 2;
inline constexpr std::uint32_t kKnowsBlanks = 4;
/// That nodes which are only read are opened by a name.
inline constexpr std::uint32_t kOpensByName = 16;
inline constexpr std::uint32_t kKnowsReadyOpens =
    8;  ///< That a grant which gets its label later may be a region's.
inline constexpr std::uint32_t kForgetsMany = 32;

/// The same of a broker, in its adopt: it takes the names away that the one before it left (fuse/mount.h, forget_name).
inline constexpr std::uint32_t kTakesNames = 1;

struct Head {
  Kind kind = Kind::ping;
  std::uint32_t abilities = 0;  ///< Only in welcome and adopt.
  std::uint64_t region = 0;
  std::uint64_t value = 0;
};
static_assert(sizeof(Head) == 24);
static_assert(sizeof(Head) + kFdsPerPacket * sizeof(std::uint64_t) <= kMaxPacketToKeeper);
static_assert(sizeof(Head) + kRegionsPerPacket * sizeof(std::uint64_t) <= kMaxPacketToKeeper);

struct Welcome {
  std::uint64_t next_grant = 0;   ///< Above every grant id ever seen; same generation in the high 16 bits.
  std::uint64_t max_held = 0;     ///< How many regions the keeper's descriptor limit allows.
  std::int32_t last_backing = 0;  ///< The latest backing id that it was told of.
  std::uint32_t fuse_alive = 0;
};
static_assert(sizeof(Welcome) == 24);

struct MemoryEntry {
  std::uint64_t region = 0;
  std::int32_t backing_id = 0;  ///< 0: not backed.
  std::uint32_t has_fd = 0;
};
static_assert(sizeof(MemoryEntry) == 16);

struct GrantEntry {
  std::uint64_t grant = 0;
  std::uint64_t region = 0;
  std::uint32_t holder_uid = 0;
  std::uint32_t holder_gid = 0;
  std::uint32_t rights = 0;
  std::uint32_t reserved = 0;
};
static_assert(sizeof(GrantEntry) == 32);

inline constexpr std::size_t kNamesPerPacket = 200;  ///< 256 bytes each at most: stays below kMaxPacket.

/// A packet ready to send.
using Bytes = std::vector<std::byte>;

template <typename T>
void append(Bytes& bytes, const T& value) {
  static_assert(std::is_trivially_copyable_v<T>);
  const std::size_t at = bytes.size();
  bytes.resize(at + sizeof value);
  std::memcpy(bytes.data() + at, &value, sizeof value);
}

inline Bytes packet(const Head& head) {
  Bytes bytes;
  append(bytes, head);
  return bytes;
}

/// Of a kind that is about many.
inline Bytes packet_about(Kind kind, std::span<const std::uint64_t> regions) {
  Bytes bytes = packet({kind, 0, 0, regions.size()});
  for (const std::uint64_t region : regions) append(bytes, region);
  return bytes;
}

/// Takes a T off the front; nothing when the bytes end before.
template <typename T>
std::optional<T> take(std::span<const std::byte>& bytes) {
  static_assert(std::is_trivially_copyable_v<T>);
  if (bytes.size() < sizeof(T)) return std::nullopt;
  T value;
  std::memcpy(&value, bytes.data(), sizeof value);
  bytes = bytes.subspan(sizeof value);
  return value;
}

}  // namespace mapcap::broker::keeper::wire
