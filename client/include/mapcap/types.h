// What is known of regions, pools and quotas, as plain values.
//
// Sizes are bytes; uid, gid and mode are the kernel's.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mapcap/api.h"
#include "mapcap/words.h"

namespace mapcap {

struct RegionInfo {
  std::uint64_t id = 0;  ///< Never reused.
  std::string name;
  std::string pool;
  std::uint32_t owner = 0;
  std::uint32_t group = 0;
  std::uint32_t mode = 0;
  std::uint64_t size = 0;
  CacheStatus cache;
  Durability durability;
  Confinement confinement = Confinement::sealed;
  SealKind seal = SealKind::sealed;
  Lifetime lifetime;
  std::chrono::nanoseconds created_unix{0};           ///< Since 1970-01-01 UTC.
  std::optional<std::chrono::nanoseconds> remaining;  ///< Until expiry; absent: it does not expire by time.
  RegionState state = RegionState::live;
  std::uint32_t grants = 0;      ///< Descriptors or mappings still alive, as far as the kernel tells.
  std::uint64_t held = 0;        ///< Bytes still charged to the owner.
  std::uint32_t bad_blocks = 0;  ///< Damaged 512-byte sectors of the backing device within the region.
  bool draining = false;         ///< Of one that is revoking: its holders may finish first.
  /// Since when nobody can write it (since 1970-01-01 UTC); absent: it is not published.
  std::optional<std::chrono::nanoseconds> published_unix;
  std::string endpoint{};  ///< The endpoint whose number `owner` is; empty: a user's.
};

/// Grants of one region that one user holds.
struct Holder {
  std::uint32_t uid = 0;
  Access rights = Access::read_only;
  std::uint32_t count = 0;
  std::string endpoint{};  ///< The endpoint whose number `uid` is; empty: none.
};

struct RegionDetails {
  RegionInfo region;
  std::vector<Holder> holders;
};

struct PoolInfo {
  std::string name;
  std::string backing;  ///< "memory", "dax-file", "dax-device", "pci-bar"
  std::uint64_t capacity = 0;
  std::uint64_t used = 0;
  std::uint64_t regions = 0;
  std::uint64_t granule = 0;  ///< Sizes are rounded up to a multiple of it.
  Confinement confinement = Confinement::sealed;
  std::string confinement_reason;  ///< Why not a stronger one; empty for the strongest.
  std::vector<SealKind> seals;     ///< Allowed; the first is the default.
  std::vector<CacheMode> cache_modes;
  Durability durability;
  bool cache_verified = false;  ///< The modes were read back from the kernel.
};

/// Whose quota, and in which pool.
struct QuotaSlot {
  SubjectKind subject = SubjectKind::any;
  std::uint32_t id = 0;  ///< uid or gid; 0 for any.
  std::string pool;      ///< Empty: over all pools.
};

struct QuotaInfo {
  QuotaSlot slot;
  Limits limits;
  std::uint64_t bytes = 0;
  std::uint64_t regions = 0;
  std::uint64_t grants = 0;
  std::uint64_t connections = 0;
  bool overridden = false;  ///< The limits come from quota_set, not from the policy.
  std::string endpoint{};   ///< The endpoint whose number a user's id is; empty: none.
};

/// A socket that is an authority: whoever can connect to it may do this, as far as the policy allows its maker
/// the same. Every member has an initializer, so that designated ones may leave out the rest.
struct EndpointSpec {
  std::string id{};                  ///< 1 to 64 of [a-z0-9._-], the first a letter or a digit.
  std::vector<std::string> names{};  ///< Globs. Empty: USER/ID/**, USER being who makes it.
  std::vector<std::string> pools{};  ///< Empty: all.
  std::vector<std::string> verbs{};  ///< Words of the policy. Empty: all about regions, pools and quota.
  Access rights = Access::read_write;
  Limits limits{};                  ///< Its own. Its maker is charged as well.
  std::chrono::nanoseconds ttl{0};  ///< At least 1 s; 0: it does not end by time.
  OnEnd on_end = OnEnd::revoke;
  std::vector<Label> labels{};
};

struct EndpointInfo {
  EndpointSpec spec;            ///< With what was left open filled in.
  std::uint32_t maker = 0;      ///< uid
  std::uint32_t principal = 0;  ///< What its regions' owner, holders and quotas call it.
  EndpointState state = EndpointState::active;
  std::string directory;  ///< Of its socket, mapcap.sock. Give a container this, by a read-only mount.
  std::chrono::nanoseconds created_unix{0};           ///< Since 1970-01-01 UTC.
  std::optional<std::chrono::nanoseconds> remaining;  ///< Until it ends; absent: not by time.
  std::uint64_t bytes = 0;                            ///< Charged to it now.
  std::uint64_t regions = 0;
  std::uint64_t grants = 0;
  std::uint64_t connections = 0;
};

/// What became of what an endpoint had made: regions revoked, and those that its maker has now; bytes that
/// stay charged until the last holder lets go.
struct EndpointEnded {
  std::uint64_t revoked = 0;
  std::uint64_t kept = 0;
  std::uint64_t held = 0;
};

/// Regions of one state.
struct StateCount {
  RegionState state = RegionState::live;
  std::uint64_t count = 0;
};

/// A region whose memory nobody but the broker and its clients holds at the moment.
struct UnguardedRegion {
  std::uint64_t id = 0;
  std::string name;
  std::uint32_t owner = 0;
};

/// The process that holds volatile memory over the broker's death.
struct KeeperStatus {
  std::uint32_t pid = 0;          ///< 0: there is none at the moment.
  bool serving = false;           ///< False while it is being replaced.
  bool adopted = false;           ///< An earlier broker started it.
  std::uint64_t held = 0;         ///< Regions whose memory it holds.
  std::uint64_t replaced = 0;     ///< How often since the broker started.
  std::string last_end;           ///< How the last one ended; empty: none did.
  std::uint64_t blanks = 0;       ///< Made ahead of creates and ready: memory without size, nobody's.
  std::uint64_t blanks_used = 0;  ///< Creates that took one, since the broker started.
};

/// Of a service manager's fd store, which holds volatile memory over the death of broker and keeper.
struct StoreUse {
  std::uint64_t stored = 0;
  std::uint64_t without_place = 0;    ///< Regions that it had no place for.
  std::optional<std::uint64_t> most;  ///< Absent: nobody says.
};

struct PoolConfinement {
  std::string pool;
  Confinement confinement = Confinement::sealed;
};

struct BrokerStatus {
  std::string broker;  ///< Name and version.
  std::uint32_t pid = 0;
  std::chrono::nanoseconds started_unix{0};  ///< Since 1970-01-01 UTC.
  std::string policy;                        ///< Where it was read.
  std::chrono::nanoseconds policy_loaded_unix{0};
  std::vector<StateCount> regions;                 ///< States that no region has are left out.
  std::uint64_t unguarded = 0;                     ///< Regions that would be lost if the broker died now.
  std::vector<UnguardedRegion> unguarded_regions;  ///< A hundred at most; to administrators only.
  KeeperStatus keeper;
  std::string ledger_trouble;     ///< Why changes are refused (a full disk); empty: they are not.
  std::optional<StoreUse> store;  ///< Absent: no service manager keeps descriptors.
  std::uint32_t connections = 0;
  std::uint32_t max_connections = 0;
  std::vector<PoolConfinement> pools;
};

struct ShutdownOptions {
  bool end_regions = false;  ///< All regions of volatile memory end first, and the keeper ends too.
  bool only_tell = false;    ///< Nothing ends: the answer says what would.
};

struct ShutdownResult {
  std::uint64_t regions = 0;      ///< Of volatile memory: those that stay with the keeper, or that ended.
  std::uint64_t users = 0;        ///< Who own them.
  std::uint64_t bytes = 0;        ///< Their sizes together.
  std::uint64_t lasting = 0;      ///< Regions of non-volatile memory, which stay as they are.
  std::uint64_t quarantined = 0;  ///< Of `regions`: devices that end when whoever has them lets go.
};

}  // namespace mapcap
