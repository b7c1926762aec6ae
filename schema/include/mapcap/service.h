// How the broker is, and how it ends.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "mapcap/words.h"

namespace mapcap {

/// Regions of one state.
struct StateCount {
  RegionState state = RegionState::live;
  std::uint64_t count = 0;
  bool operator==(const StateCount&) const = default;
};

/// A region whose memory nobody but the broker and its clients holds at the moment.
struct UnguardedRegion {
  std::uint64_t id = 0;
  std::string name;
  std::uint32_t owner = 0;
  bool operator==(const UnguardedRegion&) const = default;
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
  std::uint64_t opens = 0;        ///< Made ahead of opens and ready: grants of regions, nobody's.
  std::uint64_t opens_used = 0;   ///< Opens that took one, since the broker started.
  std::uint64_t sockets = 0;      ///< Listening sockets of endpoints that it holds.
  bool operator==(const KeeperStatus&) const = default;
};

/// Of a service manager's fd store, which holds volatile memory over the death of broker and keeper.
struct StoreUse {
  std::uint64_t stored = 0;           ///< Regions.
  std::uint64_t without_place = 0;    ///< Regions that it had no place for.
  std::optional<std::uint64_t> most;  ///< Regions and sockets. Absent: nobody says.
  std::uint64_t sockets = 0;          ///< Listening sockets of endpoints.
  bool operator==(const StoreUse&) const = default;
};

struct PoolConfinement {
  std::string pool;
  Confinement confinement = Confinement::sealed;
  bool operator==(const PoolConfinement&) const = default;
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
  bool operator==(const BrokerStatus&) const = default;
};

struct ShutdownOptions {
  bool end_regions = false;  ///< All regions of volatile memory end first, and the keeper ends too.
  bool only_tell = false;    ///< Nothing ends: the answer says what would.
  bool operator==(const ShutdownOptions&) const = default;
};

struct ShutdownResult {
  std::uint64_t regions = 0;      ///< Of volatile memory: those that stay with the keeper, or that ended.
  std::uint64_t users = 0;        ///< Who own them.
  std::uint64_t bytes = 0;        ///< Their sizes together.
  std::uint64_t lasting = 0;      ///< Regions of non-volatile memory, which stay as they are.
  std::uint64_t quarantined = 0;  ///< Of `regions`: devices that end when whoever has them lets go.
  bool operator==(const ShutdownResult&) const = default;
};

}  // namespace mapcap
