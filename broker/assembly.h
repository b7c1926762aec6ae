// From a policy's pool sections to pools that can be served: opens each backing and chooses its confiner.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "broker/books/pools.h"
#include "broker/keeper/keeper.h"
#include "broker/pool/pool.h"
#include "mapcap/fd.h"
#include "policy/confinement.h"
#include "policy/policy.h"

namespace mapcap::broker {

/// How pools get what takes power, of a broker whose mint has it. Empty: of this process itself.
struct PoolPower {
  pool::CacheReader cache_mode{};
  std::function<Fd(const std::string& pool)> open_directory{};
  std::function<Result<Fd>()> huge_tmpfs{};
  std::function<Result<std::unique_ptr<confine::Confiner>>()> make_lsm{};
  [[nodiscard]] bool elsewhere() const { return static_cast<bool>(open_directory); }
};

/// Whether only a broker that has the machine's power can serve this pool: what devices want is done in it.
bool needs_power(const policy::PoolSettings& pool);

/// The confiners of this machine. clone is the keeper's.
struct Confiners {
  Confiners(keeper::Keeper& keeper, PoolPower power);
  confine::Confiner& clone;
  std::unique_ptr<confine::Confiner> native;
  std::unique_ptr<confine::Confiner> sealed;
  /// Made when the first pool is to have it, since its programs cost every process of the machine.
  std::unique_ptr<confine::Confiner> lsm;
  policy::ConfinementFacts facts;  ///< With why lsm could not be made, once that was tried.
  PoolPower power;
};

/// Each pool is confined as policy::choose_confinement says (promise 1).
/// Errors: what the pool says about its backing, each naming the pool and the policy's line; `unsupported`
/// when no confinement can be had.
/// `ledger`: Ledger::identity().
Result<ServedPools> open_pools(const policy::Policy& policy, Confiners& confiners, std::uint32_t ledger);

/// One of them; whether all fit the machine together is the caller's business. Asks filesystems and devices.
Result<std::unique_ptr<ServedPool>> open_pool(const policy::PoolSettings& settings, Confiners& confiners,
                                              std::uint32_t ledger);

}  // namespace mapcap::broker
