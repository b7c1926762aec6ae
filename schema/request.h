// What is asked and what is answered, as plain values. The codec maps them to packets; nothing else does.
//
// Enumerators have stable numbers: they are on the wire and in the ledger. Append only.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "schema/result.h"
#include "schema/units.h"

namespace mapcap::schema {

inline constexpr std::uint32_t kProtocolVersion = 1;
/// Feature bits of hello and welcome. Each side ignores bits that it does not know.
inline constexpr std::uint64_t kFeatureNotices = 1;  ///< Wants Notice packets (expiring, revoking, revoked).
/// Will send descriptors with CloneFd. Without it the broker tells the kernel to refuse any that ride on a
/// packet.
inline constexpr std::uint64_t kFeatureSendsFds = 2;

// Limits of text on the wire, in bytes; more is malformed. A name is decoded up to kMaxNameText, so that
// RegionName can say what is wrong with it.
inline constexpr std::size_t kMaxNameText = 256;  ///< Names, globs and cursors.
inline constexpr std::size_t kMaxPoolName = 64;
inline constexpr std::size_t kMaxClientText = 64;  ///< Hello::client and Welcome::broker.
inline constexpr std::size_t kResumeBytes = 16;
inline constexpr std::size_t kMaxSentence = 2048;  ///< Longer sentences are cut by the encoder.
inline constexpr std::size_t kMaxReason = 256;     ///< PoolInfo::confinement_reason; cut by the encoder.

// ---- words
// -------------------------------------------------------------------------------------------------

/// Rights of a grant. Rights only shrink.
enum class Access : std::uint8_t { read_only = 0, read_write = 1 };

/// x86 memory types a region may be declared with.
enum class CacheMode : std::uint8_t { write_back = 0, write_through = 1, write_combining = 2, uncached = 3 };

/// By what a cache mode is brought about.
enum class CacheMechanism : std::uint8_t {
  page_attribute = 0,    ///< The page tables of every mapping say so.
  store_discipline = 1,  ///< mapcap::Mapping stores and flushes in a way that has the same effect.
  platform = 2,          ///< An MTRR or the device, set up by the administrator; reported as configured.
};

/// How much a store must be followed by to be durable (libpmem2's granularity; none: it never is).
enum class Granularity : std::uint8_t { none = 0, page = 1, cache_line = 2, byte = 3 };

/// Up to where a flushed store survives.
enum class PersistenceDomain : std::uint8_t {
  volatile_memory = 0,
  block_device = 1,
  memory_controller = 2,
  cpu_cache = 3
};

/// What makes a granted fd mmap-only.
enum class Confinement : std::uint8_t { sealed = 0, clone = 1, native = 2, lsm = 3 };

/// sealed: holders never fault; revoke zeroes and cuts off. revocable: revoke takes the mappings (SIGBUS).
/// irrevocable, of devices: revoke waits for the holders.
enum class SealKind : std::uint8_t { sealed = 0, revocable = 1, irrevocable = 2 };

enum class LifetimeKind : std::uint8_t { connection = 0, ttl = 1, persistent = 2 };
struct Lifetime {
  LifetimeKind kind = LifetimeKind::connection;
  std::chrono::nanoseconds ttl{0};  ///< Only for ttl: at least 1 s when asked.
  bool operator==(const Lifetime&) const = default;
};

/// live -> revoking -> draining -> scrubbing -> (gone). quarantined: memory that cannot be freed yet because
/// somebody pins it. lost: a region whose memory was not there when the broker started; costs nothing, is
/// only told. One that is not volatile is live again once a broker starts and finds its memory.
enum class RegionState : std::uint8_t {
  live = 0,
  revoking = 1,
  draining = 2,
  scrubbing = 3,
  quarantined = 4,
  lost = 5,
};

std::string_view to_string(Access);          ///< "ro", "rw"
std::string_view to_string(CacheMode);       ///< "wb", "wt", "wc", "uc"
std::string_view to_string(CacheMechanism);  ///< "page-attribute", "store-discipline", "platform"
std::string_view to_string(Granularity);     ///< "none", "page", "cache-line", "byte"
std::string_view to_string(
    PersistenceDomain);                    ///< "volatile", "block-device", "memory-controller", "cpu-cache"
std::string_view to_string(Confinement);   ///< "sealed", "clone", "native", "lsm"
std::string_view to_string(SealKind);      ///< "sealed", "revocable", "irrevocable"
std::string_view to_string(LifetimeKind);  ///< "connection", "ttl", "persistent"
std::string_view to_string(RegionState);   ///< "live", "revoking", ...
std::string format_lifetime(const Lifetime&);  ///< "connection", "ttl:1h", "persistent"

Result<Access> parse_access(std::string_view);  ///< Errors: `invalid`, listing what is accepted.
Result<CacheMode> parse_cache_mode(std::string_view);
Result<Confinement> parse_confinement(std::string_view);
Result<SealKind> parse_seal_kind(std::string_view);
Result<Lifetime> parse_lifetime(std::string_view);  ///< "connection", "ttl:1h", "persistent"
Result<LifetimeKind> parse_lifetime_kind(std::string_view);

// ---- what a region is
// --------------------------------------------------------------------------------------

struct CacheRequest {
  CacheMode mode = CacheMode::write_back;
  bool required = false;  ///< An error when it cannot be met; otherwise a preference.
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
  bool map_sync = false;  ///< MAP_SYNC works on the grant itself.
  bool operator==(const Durability&) const = default;
};

/// Everything that a client may know of a region.
struct RegionInfo {
  RegionId id;
  std::string name;
  std::string pool;
  std::uint32_t owner = 0;  ///< uid
  std::uint32_t group = 0;  ///< gid
  std::uint32_t mode = 0;   ///< Permission bits, 0 to 0666.
  ByteCount size;
  CacheStatus cache;
  Durability durability;
  Confinement confinement = Confinement::sealed;
  SealKind seal = SealKind::sealed;
  Lifetime lifetime;
  std::int64_t created_unix_ns = 0;
  std::int64_t remaining_ns = -1;  ///< Until expiry; -1: does not expire by time.
  RegionState state = RegionState::live;
  std::uint32_t grants = 0;      ///< Descriptors or mappings still alive, as far as the kernel tells.
  ByteCount held;                ///< Bytes still charged to the owner.
  std::uint32_t bad_blocks = 0;  ///< Damaged 512-byte sectors of the backing device within the region.
  bool operator==(const RegionInfo&) const = default;
};

// ---- requests
// ----------------------------------------------------------------------------------------------

/// The first packet of every connection. `resume`: the token of an earlier welcome (16 bytes) to take that
/// connection's `connection` regions back within the grace period, or empty.
struct Hello {
  std::uint32_t version = kProtocolVersion;
  std::uint64_t features = 0;
  std::string client;  ///< For people: program name and version; at most 64 bytes.
  std::string resume;
  bool operator==(const Hello&) const = default;
};

struct Create {
  std::string name;
  ByteCount size;    ///< Rounded up to the pool's granule; the reply says to what.
  std::string pool;  ///< Empty: the first pool of the policy that the caller may use.
  CacheRequest cache;
  Lifetime lifetime;
  std::uint32_t mode = 0600;
  std::optional<std::uint32_t>
      group;                     ///< gid; must be one of the caller's. Absent: the caller's primary group.
  std::optional<SealKind> seal;  ///< Absent: the pool's default.
  std::optional<Access> grant;   ///< Asks for a grant in the same round trip.
  bool operator==(const Create&) const = default;
};

struct Open {
  std::string name;
  Access rights = Access::read_only;
  bool operator==(const Open&) const = default;
};

struct List {
  std::string glob;         ///< Empty: all that the caller may see.
  std::string cursor;       ///< Empty: from the start; else Listing::next of the page before.
  std::uint32_t limit = 0;  ///< At most this many, 0: as many as fit a packet.
  bool operator==(const List&) const = default;
};

struct Show {
  std::string name;
  bool operator==(const Show&) const = default;
};

struct Renew {
  std::string name;
  std::chrono::nanoseconds ttl{0};
  bool operator==(const Renew&) const = default;
};

struct Revoke {
  std::string name;
  bool drain = false;                  ///< Let holders finish first.
  std::chrono::nanoseconds within{0};  ///< Only with drain: then revoke hard. 0: wait without limit.
  bool operator==(const Revoke&) const = default;
};

struct Pools {
  bool operator==(const Pools&) const = default;
};

/// Usage and limits of every quota slot that the caller may see (its own; all for an administrator).
struct Quota {
  std::string cursor;  ///< Empty: from the start; else QuotaList::next of the page before.
  bool operator==(const Quota&) const = default;
};

/// user, group: the id counts. any: every user that has no slot of its own.
enum class SubjectKind : std::uint8_t { any = 0, user = 1, group = 2 };

/// An absent limit is no limit.
struct Limits {
  std::optional<std::uint64_t> bytes;
  std::optional<std::uint64_t> regions;
  std::optional<std::uint64_t> grants;
  std::optional<std::uint64_t> connections;
  bool operator==(const Limits&) const = default;
};

/// An administrator's override, kept in the ledger; replaces the policy's limits of the same slot.
struct QuotaSet {
  SubjectKind subject = SubjectKind::any;
  std::uint32_t id = 0;
  std::string pool;  ///< Empty: over all pools.
  Limits limits;
  bool operator==(const QuotaSet&) const = default;
};
struct QuotaClear {
  SubjectKind subject = SubjectKind::any;
  std::uint32_t id = 0;
  std::string pool;
  bool operator==(const QuotaClear&) const = default;
};

/// An mmap-only clone of the regular file whose fd rides on the packet (exactly one).
struct CloneFd {
  Access rights = Access::read_only;
  bool operator==(const CloneFd&) const = default;
};

using RequestBody =
    std::variant<Hello, Create, Open, List, Show, Renew, Revoke, Pools, Quota, QuotaSet, QuotaClear, CloneFd>;

struct Request {
  std::uint64_t id = 0;  ///< Chosen by the client; comes back in the reply.
  RequestBody body;
  bool operator==(const Request&) const = default;
};

// ---- replies
// -----------------------------------------------------------------------------------------------

struct Welcome {
  std::uint32_t version = kProtocolVersion;
  std::uint64_t features = 0;
  std::string broker;  ///< "mapcapd 0.1.0"
  std::string resume;  ///< 16 random bytes: a secret between this client and the broker.
  std::chrono::nanoseconds grace{0};
  bool resumed = false;  ///< The resume token was known, and its regions are this connection's again.
  bool operator==(const Welcome&) const = default;
};

/// Answer to Create, Open and CloneFd. With `with_fd` the packet carries exactly one descriptor.
struct Granted {
  RegionInfo region;
  Access rights = Access::read_only;
  bool with_fd = false;
  bool operator==(const Granted&) const = default;
};

struct Listing {
  std::vector<RegionInfo> regions;
  std::string next;  ///< Empty: this was the last page.
  bool operator==(const Listing&) const = default;
};

struct Holder {
  std::uint32_t uid = 0;
  Access rights = Access::read_only;
  std::uint32_t count = 0;
  bool operator==(const Holder&) const = default;
};

struct Shown {
  RegionInfo region;
  std::vector<Holder> holders;  ///< Who was handed the grants that are still alive.
  bool operator==(const Shown&) const = default;
};

struct Renewed {
  RegionInfo region;
  bool operator==(const Renewed&) const = default;
};

/// Promise 5 holds. `held`: bytes that stay charged until the last holder lets go.
struct Revoked {
  ByteCount held;
  std::uint32_t grants = 0;
  bool operator==(const Revoked&) const = default;
};

struct PoolInfo {
  std::string name;
  std::string backing;  ///< "memory", "dax-file", "dax-device", "pci-bar"
  ByteCount capacity;
  ByteCount used;
  std::uint64_t regions = 0;
  ByteCount granule;  ///< Sizes are rounded up to a multiple of this.
  Confinement confinement = Confinement::sealed;
  std::string confinement_reason;  ///< Why not a stronger one; empty for the strongest.
  std::vector<SealKind> seals;     ///< Allowed; the first is the default.
  std::vector<CacheMode> cache_modes;
  Durability durability;
  bool cache_verified = false;  ///< The modes were read back from the kernel.
  bool operator==(const PoolInfo&) const = default;
};
struct PoolList {
  std::vector<PoolInfo> pools;
  bool operator==(const PoolList&) const = default;
};

struct QuotaInfo {
  SubjectKind subject = SubjectKind::any;
  std::uint32_t id = 0;
  std::string pool;  ///< Empty: over all pools.
  Limits limits;
  std::uint64_t bytes = 0;
  std::uint64_t regions = 0;
  std::uint64_t grants = 0;
  std::uint64_t connections = 0;
  bool overridden = false;  ///< Limits come from `quota set`, not from the policy.
  bool operator==(const QuotaInfo&) const = default;
};
struct QuotaList {
  std::vector<QuotaInfo> quotas;
  std::string next;  ///< Empty: this was the last page.
  bool operator==(const QuotaList&) const = default;
};

/// Answer to QuotaSet and QuotaClear.
struct Done {
  bool operator==(const Done&) const = default;
};

using ReplyBody =
    std::variant<Error, Welcome, Granted, Listing, Shown, Renewed, Revoked, PoolList, QuotaList, Done>;

struct Reply {
  std::uint64_t id = 0;  ///< The request's.
  ReplyBody body;
  bool operator==(const Reply&) const = default;
};

// ---- notices: the broker speaks first
// ----------------------------------------------------------------------

enum class NoticeKind : std::uint8_t {
  expiring = 0,  ///< The ttl ends in `within`, unless renewed.
  revoking = 1,  ///< A drain began: let go within `within`.
  revoked = 2,   ///< Gone: mappings fault (revocable) or read zeros (sealed).
  progress = 3,  ///< Long work on the caller's own request: `done` of `total` bytes.
};

struct Notice {
  NoticeKind kind = NoticeKind::revoked;
  RegionId id;
  std::string name;
  std::chrono::nanoseconds within{0};
  std::uint64_t request = 0;  ///< Only progress.
  ByteCount done;
  ByteCount total;
  bool operator==(const Notice&) const = default;
};

/// Everything the broker sends.
using FromBroker = std::variant<Reply, Notice>;

}  // namespace mapcap::schema
