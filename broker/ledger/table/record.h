// What the ledger keeps of a region and of a quota override, as plain values. record_layout.cpp holds the byte
// layout.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "base/units.h"
#include "mapcap/words.h"

namespace mapcap::broker::ledger {

using BootId = std::array<std::uint8_t, 16>;  ///< /proc/sys/kernel/random/boot_id, binary.

/// What a change must survive before it is acknowledged.
enum class Strength : std::uint8_t {
  process = 0,  ///< The broker's death: a store to the mapping is enough.
  power = 1,    ///< Power loss: flush and fence on DAX, msync elsewhere.
};

struct RegionRecord {
  RegionId id;
  std::string name;  ///< A RegionName, at most 112 bytes.
  std::string pool;  ///< At most 23 bytes.
  std::uint32_t owner = 0;
  std::uint32_t group = 0;
  std::uint32_t mode = 0;
  ByteCount size;  ///< Charged and mappable bytes, a multiple of the pool's granule.
  CacheRequest cache;
  CacheMode cache_effective = CacheMode::write_back;
  SealKind seal = SealKind::sealed;
  LifetimeKind lifetime = LifetimeKind::connection;
  std::uint64_t ttl_ns = 0;
  RegionState state = RegionState::live;
  bool volatile_memory = true;  ///< Lives only in the keeper or the fd store.
  BootId boot{};                ///< Of the boot that last wrote the expiry or owns volatile memory.
  std::int64_t created_unix_ns = 0;
  std::int64_t expires_boot_ns = 0;        ///< CLOCK_BOOTTIME, valid within `boot`; 0: none.
  std::int64_t expires_unix_ns = 0;        ///< Valid across boots; 0: none.
  std::array<std::uint8_t, 16> session{};  ///< The resume token a `connection` region belongs to; zero: none.
  std::uint64_t extent = 0;                ///< The pool's own word: file number, device index.
  std::int64_t published_unix_ns = 0;      ///< Since when nobody may write it; 0: it is not published.
  bool operator==(const RegionRecord&) const = default;
};

struct QuotaRecord {
  SubjectKind subject = SubjectKind::any;
  std::uint32_t id = 0;
  std::string pool;  ///< Empty: over all pools. At most 23 bytes.
  Limits limits;
  bool operator==(const QuotaRecord&) const = default;
};

/// An endpoint: an authority of its own. It takes several slots, of which one says that it exists.
struct EndpointRecord {
  std::uint64_t number = 0;  ///< As regions' ids, and one of them.
  std::string id;            ///< schema::check_endpoint_id.
  EndpointState state = EndpointState::active;
  std::uint32_t principal = 0;
  std::uint32_t maker = 0;        ///< uid
  std::uint32_t maker_group = 0;  ///< gid, primary.
  bool maker_administrator = false;
  OnEnd on_end = OnEnd::revoke;
  Access rights = Access::read_write;
  bool revoke_opened = false;  ///< Of one that ends: its maker's regions that its clients have open end too.
  Limits limits;
  std::uint64_t ttl_ns = 0;  ///< 0: it does not end by time.
  BootId boot{};             ///< Of the boot that last wrote the expiry.
  std::int64_t created_unix_ns = 0;
  std::int64_t expires_boot_ns = 0;  ///< As of a region.
  std::int64_t expires_unix_ns = 0;

  /// What is written once, and stays for as long as the record is there: at most kMaxEndpointText together.
  std::vector<std::string> names;  ///< Globs.
  std::vector<std::string> pools;
  std::vector<std::string> verbs;  ///< The policy's words.
  std::vector<Label> labels;
  std::vector<std::uint32_t> groups;  ///< Of the maker, beside his primary one.
  bool operator==(const EndpointRecord&) const = default;
};

}  // namespace mapcap::broker::ledger
