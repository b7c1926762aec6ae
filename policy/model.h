// What a policy file says, as plain values. The loader fills them in and has checked everything that is said
// here; the broker reads the settings, the Policy judges by the rules.
#pragma once

#include <bitset>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"
#include "base/units.h"
#include "mapcap/words.h"
#include "policy/problem.h"

namespace mapcap::policy {

/// What can be allowed. `quota` reads, `quota_set` sets and clears the administrator's overrides. `reload` reads the policy file again, `policy`
/// shows the one in force and tells what anybody may do by it. `endpoint` makes endpoints, and renews, lists
/// and ends one's own.
enum class Verb : std::uint8_t {
  create,
  open,
  list,
  show,
  renew,
  revoke,
  pools,
  quota,
  quota_set,
  clone,
  shutdown,
  reload,
  policy,
  publish,
  endpoint
};
inline constexpr std::size_t kVerbs = 15;
/// Not about a region.
bool nameless(Verb verb);
/// Decides over others, or over what the broker is: `quota_set`, `shutdown`, `reload` and `policy`. Rules give it to who
/// is no administrator only where they list it.
bool administers(Verb verb);

/// "create", ..., "quota-set".
std::string_view to_string(Verb);
/// Errors: `invalid`, listing what is accepted.
Result<Verb> parse_verb(std::string_view);

/// Moving a table within its file changes nothing.
struct Place {
  Position position;
  bool operator==(const Place&) const { return true; }
};

// ---- [broker]

struct BrokerSettings {
  std::string socket = "/run/mapcap/mapcap.sock";
  std::string state = "/var/lib/mapcap";
  std::chrono::nanoseconds grace = std::chrono::seconds(5);             ///< To reconnect in; 0 to 1 h.
  std::chrono::nanoseconds expiring_notice = std::chrono::seconds(30);  ///< Before a ttl ends; 0 to 1 d.
  std::chrono::nanoseconds keeper_deadline = std::chrono::seconds(2);   ///< Of one open; 10 ms to 1 min.
  std::uint32_t max_connections = 4096;                                 ///< 1 to 100,000.
  std::uint32_t max_connections_per_user = 64;                          ///< 1 to max_connections.
  Place socket_at;                                                      ///< Or of [broker].
  Place state_at;
  bool operator==(const BrokerSettings&) const = default;
};

// ---- [pool.NAME]

enum class Backing : std::uint8_t { memory, dax_file, dax_device, pci_bar };
/// "memory", "dax-file", "dax-device", "pci-bar"
std::string_view to_string(Backing);

/// Percent of what the machine has: of MemTotal for memory, of the filesystem for dax-file. 1 to 100.
struct Percent {
  std::uint32_t value = 0;
  bool operator==(const Percent&) const = default;
};
using Capacity = std::variant<ByteCount, Percent>;

inline constexpr std::size_t kMaxPools = 64;
inline constexpr std::size_t kMaxPoolNameInPolicy = 23;  ///< What a ledger record has room for.

struct PoolSettings {
  std::string name;
  std::string where;  ///< "policy.toml:12", for messages.
  Place at;
  Backing backing = Backing::memory;
  std::optional<Capacity> capacity;        ///< Absent: all of the device; never absent for memory.
  std::optional<Confinement> confinement;  ///< Absent: the strongest that the machine can enforce.
  std::vector<SealKind> seals;             ///< At least one; the first is the default.
  std::vector<CacheMode> cache;            ///< Allowed modes; empty: every one that is obtainable.
  bool wt_platform = false;                ///< The administrator set up an MTRR for write-through.
  bool populate = false;                   ///< memory: allocate the pages at create.
  bool huge = false;                       ///< memory: huge pages.
  bool secret = false;                     ///< memory: memfd_secret.
  std::optional<std::uint32_t> numa;       ///< memory: the node.
  std::string path;                        ///< dax-file: an absolute, normalised directory.
  /// dax-file: how long a revoke waits for pinned pages before the region is quarantined; 10 ms to 1 h.
  std::chrono::nanoseconds pin_deadline = std::chrono::seconds(5);
  std::vector<std::string> devices;  ///< dax-device: device nodes ...
  std::string region;                ///< ... or the name of an ndctl or daxctl region.
  /// dax-device, pci-bar: how long a revoke waits for holders before it ends them, 0 to 20 s; absent: it
  /// fails while there are any.
  std::optional<std::chrono::nanoseconds> end_holders_after;
  std::vector<std::string> resources;  ///< pci-bar: sysfs resource files.
  bool operator==(const PoolSettings&) const = default;
};

/// The one of that name. Errors: `not_found`, with the names that there are.
Result<const PoolSettings*> find_pool(const std::vector<PoolSettings>& pools, const std::string& name);

// ---- [[rule]]

enum class Effect : std::uint8_t { allow, deny };

/// Ids; `any` or `administrator` with no ids, else exactly one of the lists, or endpoints.
struct SubjectMatch {
  bool any = false;
  bool administrator = false;  ///< Who has the machine's power (Subject::administrator).
  std::string endpoint;        ///< Glob of the endpoints that are meant; empty: none, unless by `labels`.
  std::vector<Label> labels;   ///< Endpoints that have all of these.
  std::vector<std::uint32_t> uids;
  std::vector<std::uint32_t> gids;
  /// deny: only of peers in that place (place.h); both empty: wherever they are.
  std::string unit;    ///< Glob of a component.
  std::string cgroup;  ///< Glob of a path, which means what is below it too.
  std::string text;    ///< As the file says it: "user alice", for explanations.
  [[nodiscard]] bool endpoints() const { return !endpoint.empty() || !labels.empty(); }
  [[nodiscard]] bool placed() const { return !unit.empty() || !cgroup.empty(); }
};

/// An empty list, set or optional says nothing, which means all.
struct Rule {
  std::string where;  ///< "policy.toml:12"
  Position at;
  Effect effect = Effect::allow;
  SubjectMatch subject;
  std::vector<std::string> names;  ///< Globs (glob_match) after "{user}" and "{uid}" were put in.
  std::vector<std::string> pools;
  std::bitset<kVerbs> verbs;
  std::optional<Access> rights;  ///< allow: at most these. deny: these and stronger ones.
  std::bitset<4> cache;          ///< By CacheMode.
  std::bitset<3> lifetimes;      ///< By LifetimeKind.
  std::bitset<3> seals;          ///< By SealKind.
  std::optional<std::chrono::nanoseconds> max_ttl;
  std::optional<ByteCount> max_size;
  bool published_only = false;  ///< allow: of regions that exist, it opens published ones alone.
};

// ---- [[quota]]

/// `endpoints`: the default of each single endpoint that it speaks of; subject and id say nothing then. user, group: the id counts. any: the default of each single user that has no user slot for the same pool.
/// group: what its members have, primary and supplementary ones, together.
struct QuotaRule {
  std::string where;
  Position at;
  SubjectKind subject = SubjectKind::any;
  std::uint32_t id = 0;
  std::string pool;  ///< Empty: over all pools.
  Limits limits;
  std::optional<Percent>
      share;         ///< Instead of limits.bytes: of the pool's capacity; without a pool, of each pool's.
  std::string name;  ///< As the file calls the group; empty: by its id.
  std::optional<SubjectMatch> endpoints;
};

/// A whole file.
struct Settings {
  std::string source;  ///< The file's name as messages say it.
  BrokerSettings broker;
  std::vector<PoolSettings> pools;  ///< In the file's order; at least one.
  std::vector<Rule> rules;          ///< In the file's order.
  std::vector<QuotaRule> quotas;
};

}  // namespace mapcap::policy
