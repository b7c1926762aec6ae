// The words that clients, broker and policy share. The protocol and the ledger keep the numbers: append only.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "mapcap/api.h"

namespace mapcap {

/// Rights of a grant. Rights only shrink.
enum class Access : std::uint8_t { read_only = 0, read_write = 1 };

/// x86 memory types: WB, WT, WC, UC.
enum class CacheMode : std::uint8_t { write_back = 0, write_through = 1, write_combining = 2, uncached = 3 };

/// By what a cache mode is brought about. page_attribute: every mapping's page tables. store_discipline:
/// Mapping's stores flush in a way that has the same effect (stores through a bare pointer do not).
/// platform: an MTRR or the device, set up by the administrator.
enum class CacheMechanism : std::uint8_t { page_attribute = 0, store_discipline = 1, platform = 2 };

/// What a store must be followed by to be durable: msync, a cache line flush, nothing. none: it never is
/// durable.
enum class Granularity : std::uint8_t { none = 0, page = 1, cache_line = 2, byte = 3 };

/// Up to where a flushed store survives.
enum class PersistenceDomain : std::uint8_t {
  volatile_memory = 0,
  block_device = 1,
  memory_controller = 2,
  cpu_cache = 3,
};

/// What makes a granted fd mmap-only: nothing but seals, a FUSE passthrough clone, the device itself, a BPF
/// LSM.
enum class Confinement : std::uint8_t { sealed = 0, clone = 1, native = 2, lsm = 3 };

/// sealed: holders never fault; a revoke zeroes the memory. revocable: a revoke takes the mappings away
/// (SIGBUS). irrevocable: a revoke takes nothing from those who have it, and fails while anybody does, unless
/// the pool's policy ends them; the memory comes back when the last one lets go. Devices are irrevocable, and
/// nothing else is.
enum class SealKind : std::uint8_t { sealed = 0, revocable = 1, irrevocable = 2 };

enum class LifetimeKind : std::uint8_t { connection = 0, ttl = 1, persistent = 2 };

enum class RegionState : std::uint8_t {
  live = 0,
  revoking = 1,
  draining = 2,
  scrubbing = 3,
  quarantined = 4,
  lost = 5,
};

/// What becomes of the regions that an endpoint made, when it ends: they are revoked, or its maker's.
enum class OnEnd : std::uint8_t { revoke = 0, keep = 1 };

/// active: it listens. ending: what came of it is being ended. ended: only its name is known, for as long as
/// somebody holds what it was charged for.
enum class EndpointState : std::uint8_t { active = 0, ending = 1, ended = 2 };

/// any: every user that has no slot of its own.
enum class SubjectKind : std::uint8_t { any = 0, user = 1, group = 2 };

MAPCAP_API std::string_view to_string(Access);          ///< "ro", "rw"
MAPCAP_API std::string_view to_string(CacheMode);       ///< "wb", "wt", "wc", "uc"
MAPCAP_API std::string_view to_string(CacheMechanism);  ///< "page-attribute", "store-discipline", "platform"
MAPCAP_API std::string_view to_string(Granularity);     ///< "none", "page", "cache-line", "byte"
MAPCAP_API std::string_view to_string(PersistenceDomain);  ///< "volatile", "block-device", ...
MAPCAP_API std::string_view to_string(Confinement);        ///< "sealed", "clone", "native", "lsm"
MAPCAP_API std::string_view to_string(SealKind);           ///< "sealed", "revocable", "irrevocable"
MAPCAP_API std::string_view to_string(RegionState);        ///< "live", "revoking", ...
MAPCAP_API std::string_view to_string(OnEnd);              ///< "revoke", "keep"
MAPCAP_API std::string_view to_string(EndpointState);      ///< "active", "ending", "ended"

/// connection: until the creator's connection ends (and its grace period). ttl: for `ttl`, renewable.
/// persistent: until revoked.
struct Lifetime {
  LifetimeKind kind = LifetimeKind::connection;
  std::chrono::nanoseconds ttl{0};  ///< Only for ttl; at least 1 s.

  static Lifetime connection() { return {}; }
  static Lifetime for_time(std::chrono::nanoseconds ttl) { return {LifetimeKind::ttl, ttl}; }
  static Lifetime persistent() { return {LifetimeKind::persistent, std::chrono::nanoseconds(0)}; }
  bool operator==(const Lifetime&) const = default;
};

/// required: creating fails when the mode cannot be met. Otherwise it is a preference, and RegionInfo::cache
/// says what came of it.
struct CacheRequest {
  CacheMode mode = CacheMode::write_back;
  bool required = false;
  bool operator==(const CacheRequest&) const = default;
};

struct CacheStatus {
  CacheMode requested = CacheMode::write_back;
  bool required = false;
  CacheMode effective = CacheMode::write_back;
  CacheMechanism mechanism = CacheMechanism::page_attribute;
  bool verified = false;  ///< Read back from a page table on this machine, for this backing.
  bool operator==(const CacheStatus&) const = default;
};

struct Durability {
  Granularity granularity = Granularity::none;
  PersistenceDomain domain = PersistenceDomain::volatile_memory;
  bool map_sync = false;  ///< MAP_SYNC works on the grant.
  bool operator==(const Durability&) const = default;
};

/// What whoever made an endpoint says of it, for policies, listings and audit.
struct Label {
  std::string key;    ///< 1 to 63 of [A-Za-z0-9._/-].
  std::string value;  ///< The same.
  bool operator==(const Label&) const = default;
};

/// An absent limit is no limit.
struct Limits {
  std::optional<std::uint64_t> bytes;
  std::optional<std::uint64_t> regions;
  std::optional<std::uint64_t> grants;
  std::optional<std::uint64_t> connections;
  bool operator==(const Limits&) const = default;
};

}  // namespace mapcap
