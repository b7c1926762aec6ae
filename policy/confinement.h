// How a pool's grants are made mmap-only (promise 1), of what is known of the machine: one answer for the broker's start,
// `mapcap policy check` and `mapcap doctor`. Nothing is asked or tried here.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "mapcap/words.h"
#include "policy/model.h"

namespace mapcap::policy {

/// What decides it. What nobody could find out is taken to be there: who tries it is told.
struct ConfinementFacts {
  std::string no_clones;  ///< Why the machine has no clones; empty: it has.
  std::string no_lsm;     ///< Why it takes no LSM programs; empty: it does.
  /// It has cachestat(2) (Linux 6.5), which takes what DAX keeps of a file for evicted pages and oopses (seen on 6.12):
  /// whoever has the file itself can stop the machine. A clone's inode is not the file's.
  bool cachestat = false;
};

struct ConfinementChoice {
  Confinement kind = Confinement::sealed;
  std::string reason;  ///< Why not a stronger one, and what else the administrator should know; may be empty.
  bool operator==(const ConfinementChoice&) const = default;
};

/// What the policy asks for, else the strongest that there is. The order of strength for each backing:
///
///     memory                  clone, lsm           sealed, where the policy says so
///     memory, secret = true   native
///     dax-file                lsm (keeps MAP_SYNC), clone; with cachestat(2) clone, lsm
///     dax-device, pci-bar     native
///
/// Errors: `unsupported`, with the reason, at the pool's place in the policy.
Result<ConfinementChoice> choose_confinement(const PoolSettings& pool, const ConfinementFacts& facts);

/// The pools that are refused, as problems of the file: an error where no machine would serve them, else a warning.
std::vector<Problem> unconfined(const std::vector<PoolSettings>& pools, const ConfinementFacts& facts);

}  // namespace mapcap::policy
