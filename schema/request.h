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

#include "base/result.h"
#include "base/units.h"
#include "base/words.h"
#include "mapcap/words.h"

namespace mapcap::schema {

inline constexpr std::uint32_t kProtocolVersion = 1;
/// Feature bits of hello and welcome. Each side ignores bits that it does not know.
inline constexpr std::uint64_t kFeatureNotices = 1;  ///< Wants Notice packets (expiring, revoking, revoked).
/// Of clients up to 0.1.0, which sent the file to clone on their connection. Nothing may ride there any more.
inline constexpr std::uint64_t kFeatureSendsFds = 2;
/// Files to clone are sent to a port (ClonePort).
inline constexpr std::uint64_t kFeatureClonePorts = 4;
/// The broker knows Goodbye.
inline constexpr std::uint64_t kFeatureGoodbye = 8;
/// The broker knows Publish.
inline constexpr std::uint64_t kFeaturePublish = 16;

// Limits of text on the wire, in bytes; more is malformed. A name is decoded up to kMaxNameText, so that
// RegionName can say what is wrong with it.
inline constexpr std::size_t kMaxNameText = 256;  ///< Names, globs and cursors.
inline constexpr std::size_t kMaxPoolName = 64;
inline constexpr std::size_t kMaxClientText = 64;  ///< Hello::client and Welcome::broker.
inline constexpr std::size_t kResumeBytes = 16;
inline constexpr std::size_t kMaxSentence = 2048;   ///< Longer sentences are cut by the encoder.
inline constexpr std::size_t kMaxReason = 256;      ///< PoolInfo::confinement_reason; cut by the encoder.
inline constexpr std::size_t kMaxPolicyLine = 512;  ///< Each text about a policy; cut by the encoder.
inline constexpr std::size_t kMaxVerbText = 32;
/// Of a policy's text in one PolicyInForce.
inline constexpr std::size_t kPolicyPiece = 48U << 10U;
inline constexpr std::size_t kMaxWord = 64;   ///< Ids of endpoints, verbs, and keys and values of labels.
inline constexpr std::size_t kMaxPath = 256;  ///< EndpointInfo::directory.

// ---- what a region is

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
  bool draining = false;         ///< Of one that is revoking: its holders may finish first.
  /// Since when nobody can write it; absent: it is not published.
  std::optional<std::int64_t> published_unix_ns;
  std::string endpoint;  ///< The endpoint that `owner` is the number of; empty: it is a uid.
  bool operator==(const RegionInfo&) const = default;
};

// ---- what an endpoint is

/// An authority: whoever can connect to its socket may do this, as far as the policy allows its maker the
/// same.
struct EndpointSpec {
  std::string id;                  ///< See endpoint_id.h.
  std::vector<std::string> names;  ///< Globs. Empty: USER/ID/**, after the maker.
  std::vector<std::string> pools;  ///< Empty: all.
  std::vector<std::string> verbs;  ///< The policy's words. Empty: all about regions, pools and quota.
  Access rights = Access::read_write;
  Limits limits;                    ///< Its own. The maker is charged as well.
  std::chrono::nanoseconds ttl{0};  ///< 0: it does not end by time.
  OnEnd on_end = OnEnd::revoke;
  std::vector<Label> labels;
  bool operator==(const EndpointSpec&) const = default;
};

struct EndpointInfo {
  EndpointSpec spec;            ///< With what was left open filled in.
  std::uint32_t maker = 0;      ///< uid
  std::uint32_t principal = 0;  ///< The number that it owns, holds and is charged as.
  EndpointState state = EndpointState::active;
  std::string directory;  ///< Of its socket, mapcap.sock: what a container is given, by a mount.
  std::int64_t created_unix_ns = 0;
  std::int64_t remaining_ns = -1;  ///< Until its ttl ends; -1: it does not.
  std::uint64_t bytes = 0;         ///< What it is charged with now.
  std::uint64_t regions = 0;
  std::uint64_t grants = 0;
  std::uint64_t connections = 0;
  bool operator==(const EndpointInfo&) const = default;
};

// ---- requests

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

/// Nobody is to write the region any more. `within`: how long to wait for those who still can.
struct Publish {
  std::string name;
  std::chrono::nanoseconds within{0};
  bool operator==(const Publish&) const = default;
};

struct Pools {
  bool operator==(const Pools&) const = default;
};

/// Usage and limits of every quota slot that the caller may see (its own; all for an administrator).
struct Quota {
  std::string cursor;  ///< Empty: from the start; else QuotaList::next of the page before.
  bool operator==(const Quota&) const = default;
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

/// Asks for a port: a socket whose other end a process of its own reads, which looks at what strangers send.
/// The client sends one packet there, with the file's descriptor on it (exactly one; what the packet says
/// does not matter), and then asks for the clone. A connection has one port at a time.
struct AskClonePort {
  bool operator==(const AskClonePort&) const = default;
};

/// An mmap-only clone of the regular file that was sent to the port.
struct CloneFd {
  Access rights = Access::read_only;
  std::uint64_t ticket = 0;  ///< ClonePort::ticket; it is good for one clone.
  bool operator==(const CloneFd&) const = default;
};

/// Of a client that leaves of its own accord: what it made with the lifetime `connection` ends now, without
/// the grace that a client is given which died. The reply comes when all of it is revoked.
struct Goodbye {
  bool operator==(const Goodbye&) const = default;
};

/// For administrators: the broker ends in order. Memory stays with the keeper, unless its regions are to end.
struct Shutdown {
  bool end_regions = false;  ///< All regions of volatile memory end first, and the keeper ends too.
  bool only_tell = false;    ///< Nothing ends: the reply says what would.
  bool operator==(const Shutdown&) const = default;
};

/// How the broker is. For whoever may ask for the pools.
struct AskStatus {
  bool operator==(const AskStatus&) const = default;
};

/// The policy file is read again; for whom the policy allows `reload`.
struct Reload {
  bool operator==(const Reload&) const = default;
};

/// The policy in force, a piece at a time; for whom it allows `policy`.
struct PolicyShow {
  std::uint64_t offset = 0;  ///< Of the text, in bytes.
  bool operator==(const PolicyShow&) const = default;
};

/// What the broker would answer; nothing is done. Of oneself, and of anybody for whom the policy allows
/// `policy`.
struct PolicyExplain {
  std::uint32_t uid = 0;  ///< Who would ask.
  std::string verb;       ///< As rules say it.
  Create ask;             ///< Of verbs but create only the name, and the rights in `grant`.
  std::optional<std::chrono::nanoseconds> ttl;  ///< Of a renew.
  bool operator==(const PolicyExplain&) const = default;
};

struct EndpointCreate {
  EndpointSpec spec;
  bool operator==(const EndpointCreate&) const = default;
};

/// Those that the caller made; all for an administrator.
struct EndpointList {
  std::string cursor;  ///< Empty: from the start; else EndpointListing::next of the page before.
  bool operator==(const EndpointList&) const = default;
};

struct EndpointShow {
  std::string id;
  bool directory = false;  ///< Asks for a descriptor of its directory.
  bool operator==(const EndpointShow&) const = default;
};

/// Restarts its ttl.
struct EndpointRenew {
  std::string id;
  std::chrono::nanoseconds ttl{0};
  bool operator==(const EndpointRenew&) const = default;
};

/// Nobody can connect to it, or goes on being connected, and what it made is revoked or its maker's.
struct EndpointEnd {
  std::string id;
  bool operator==(const EndpointEnd&) const = default;
};

using RequestBody =
    std::variant<Hello, Create, Open, List, Show, Renew, Revoke, Pools, Quota, QuotaSet, QuotaClear, CloneFd,
                 AskClonePort, Goodbye, Shutdown, AskStatus, Reload, PolicyShow, PolicyExplain, Publish,
                 EndpointCreate, EndpointList, EndpointShow, EndpointRenew, EndpointEnd>;

struct Request {
  std::uint64_t id = 0;  ///< Chosen by the client; comes back in the reply.
  RequestBody body;
  bool operator==(const Request&) const = default;
};

// ---- replies

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

/// The packet carries exactly one descriptor, the client's end of the port.
struct ClonePort {
  std::uint64_t ticket = 0;
  bool operator==(const ClonePort&) const = default;
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
  std::string endpoint{};  ///< The endpoint that `uid` is the number of; empty: none.
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

/// Promise 15 holds.
struct Published {
  RegionInfo region;
  bool operator==(const Published&) const = default;
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
  std::string endpoint{};   ///< The endpoint that a user's `id` is the number of; empty: none.
  bool operator==(const QuotaInfo&) const = default;
};
struct QuotaList {
  std::vector<QuotaInfo> quotas;
  std::string next;  ///< Empty: this was the last page.
  bool operator==(const QuotaList&) const = default;
};

/// Answer to QuotaSet, QuotaClear and Goodbye.
struct Done {
  bool operator==(const Done&) const = default;
};

/// The broker ends after this reply. With end_regions promise 5 holds of all regions that it counts.
struct ShuttingDown {
  std::uint64_t regions = 0;  ///< Of volatile memory: those that stay with the keeper, or that ended.
  std::uint64_t users = 0;    ///< Who own them.
  ByteCount bytes;            ///< Their sizes together.
  std::uint64_t lasting = 0;  ///< Regions of non-volatile memory, which stay as they are.
  /// Of `regions`: devices that somebody still has, which nobody can take away. They end when he lets go.
  std::uint64_t quarantined = 0;
  bool operator==(const ShuttingDown&) const = default;
};

struct StateCount {
  RegionState state = RegionState::live;
  std::uint64_t count = 0;
  bool operator==(const StateCount&) const = default;
};
struct UnguardedRegion {
  RegionId id;
  std::string name;
  std::uint32_t owner = 0;  ///< uid
  bool operator==(const UnguardedRegion&) const = default;
};
struct KeeperStatus {
  std::uint32_t pid = 0;          ///< 0: there is none at the moment.
  bool serving = false;           ///< False while it is being replaced.
  bool adopted = false;           ///< An earlier broker started it.
  std::uint64_t held = 0;         ///< Regions whose memory it holds.
  std::uint64_t replaced = 0;     ///< How often since this broker started.
  std::string last_end;           ///< How the last one ended; empty: none did.
  std::uint64_t blanks = 0;       ///< Made ahead of creates and ready: memory without size, nobody's.
  std::uint64_t blanks_used = 0;  ///< Creates that took one, since the broker started.
  bool operator==(const KeeperStatus&) const = default;
};
/// Of the service manager's fd store.
struct StoreUse {
  std::uint64_t stored = 0;
  std::uint64_t without_place = 0;    ///< Regions that it had no place for.
  std::optional<std::uint64_t> most;  ///< Absent: nobody says.
  bool operator==(const StoreUse&) const = default;
};
struct PoolConfinement {
  std::string pool;
  Confinement confinement = Confinement::sealed;
  bool operator==(const PoolConfinement&) const = default;
};

/// How many unguarded regions a status names.
inline constexpr std::size_t kMostUnguarded = 100;

struct Status {
  std::string broker;  ///< "mapcapd 0.1.0"
  std::uint32_t pid = 0;
  std::int64_t started_unix_ns = 0;
  std::string policy;  ///< Where it was read.
  std::int64_t policy_loaded_unix_ns = 0;
  std::vector<StateCount> regions;  ///< States that no region has are left out.
  /// Regions whose memory nobody but the broker and its clients holds at the moment.
  std::uint64_t unguarded = 0;
  std::vector<UnguardedRegion> unguarded_regions;  ///< Up to kMostUnguarded of them, to administrators.
  KeeperStatus keeper;
  std::string ledger_trouble;     ///< Why changes are refused (a full disk); empty: they are not.
  std::optional<StoreUse> store;  ///< Absent: no service manager keeps descriptors.
  std::uint32_t connections = 0;
  std::uint32_t max_connections = 0;
  std::vector<PoolConfinement> pools;
  bool operator==(const Status&) const = default;
};

/// What is wrong, or only odd, at a place of a policy file.
struct PolicyProblem {
  std::uint32_t line = 1;
  std::uint32_t column = 1;
  bool warning = false;  ///< Else an error: no broker takes the file.
  std::string message;
  bool operator==(const PolicyProblem&) const = default;
};

/// One difference between two policies.
struct PolicyChange {
  std::string what;   ///< "rule added", "pool grown"
  std::string whom;   ///< "group staff", "pool dram"
  std::string place;  ///< "policy.toml:12"; empty: none.
  std::string detail;
  bool operator==(const PolicyChange&) const = default;
};

/// Answer to Reload. All of the new policy is in force, or none of it.
struct Reloaded {
  std::string file;
  bool in_force = false;
  std::vector<PolicyProblem> problems;  ///< With an error among them: not in force.
  std::vector<PolicyChange> changes;
  std::uint32_t more = 0;  ///< Problems and changes that a packet has no room for.
  bool operator==(const Reloaded&) const = default;
};

struct PolicyInForce {
  std::string file;
  std::string sha256;  ///< Of the whole text, in hexadecimal.
  std::int64_t loaded_unix_ns = 0;
  std::string loaded_by;  ///< "start", "SIGHUP", "user alice"
  std::uint32_t pools = 0;
  std::uint32_t rules = 0;
  std::uint32_t quotas = 0;
  std::uint64_t size = 0;  ///< Of the whole text, in bytes.
  std::uint64_t offset = 0;
  std::string text;  ///< From there on, at most kPolicyPiece bytes; empty: that was all.
  bool operator==(const PolicyInForce&) const = default;
};

/// A rule about somebody, held against what he wants.
struct RuleSaid {
  std::string place;  ///< "policy.toml:12"
  bool denies = false;
  std::string subject;  ///< "user alice"
  bool applies = false;
  std::string why;  ///< Why not: "names = a/**".
  bool operator==(const RuleSaid&) const = default;
};

/// Answer to PolicyExplain.
struct Explained {
  std::optional<Failure> refusal;  ///< Absent: allowed. Else what the broker would answer.
  std::string policy;              ///< The file's name.
  std::string user;                ///< "user alice", as the policy knows him.
  std::string rule;                ///< The place of the one that allows or denies; empty: none does.
  /// What a create would make, in the pool that it would make it in or that came closest; the region that
  /// there is. Of its fields those that rules and modes speak of.
  std::optional<RegionInfo> judged;
  std::vector<RuleSaid> rules;  ///< About the user: the one that decides first, then those that came closest.
  std::uint32_t more = 0;       ///< Rules about the user that are not told.
  bool operator==(const Explained&) const = default;
};

/// Answer to EndpointCreate, EndpointShow and EndpointRenew. With `with_fd` the packet carries exactly one
/// descriptor: of a mount of the directory that is the holder's alone, through which the socket can be
/// connected (/proc/self/fd/N/mapcap.sock) and nothing else be reached.
struct EndpointTold {
  EndpointInfo endpoint;
  bool with_fd = false;
  bool operator==(const EndpointTold&) const = default;
};

struct EndpointListing {
  std::vector<EndpointInfo> endpoints;
  std::string next;  ///< Empty: this was the last page.
  bool operator==(const EndpointListing&) const = default;
};

/// How many regions were taken away and how many are its maker's; bytes that stay charged until the last
/// holder lets go.
struct EndpointEnded {
  std::uint64_t revoked = 0;
  std::uint64_t kept = 0;
  ByteCount held;
  bool operator==(const EndpointEnded&) const = default;
};

using ReplyBody = std::variant<Failure, Welcome, Granted, Listing, Shown, Renewed, Revoked, PoolList,
                               QuotaList, Done, ClonePort, ShuttingDown, Status, Reloaded, PolicyInForce,
                               Explained, Published, EndpointTold, EndpointListing, EndpointEnded>;

struct Reply {
  std::uint64_t id = 0;  ///< The request's.
  ReplyBody body;
  bool operator==(const Reply&) const = default;
};

// ---- notices: the broker speaks first

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
