// After the cut: the last holder is waited for, and the memory given back to its pool. Only then the charge ends.
#include "broker/regions/reclaim.h"

#include <algorithm>
#include <memory>

#include "base/units.h"
#include "broker/ledger/strength.h"
#include "broker/regions/custody.h"
#include "broker/regions/reclaim_steps.h"

namespace mapcap::broker {

using namespace std::chrono_literals;

namespace {

/// How often untracked memory is asked whether it is still held; the charge must end within 100 ms of the
/// last exit.
constexpr std::chrono::nanoseconds kProbeEvery = 50ms;
/// And how much of that for each region that is asked about: thousands of them must not fill the loop's time.
constexpr std::chrono::nanoseconds kProbeShare = 100us;
/// What the keeper gets to close a descriptor that it was told to drop.
constexpr std::chrono::nanoseconds kKeeperGoesFirst = 20ms;

}  // namespace

Task<void> Reclaim::finish(RegionId id) {
  for (auto pause = std::chrono::nanoseconds(100ms); !parts_.directory.find(id)->cut;
       pause = std::min(pause * 2, kRetryAtMost)) {
    co_await parts_.loop.sleep(pause);
    Result<void> done = co_await cut(id);
    if (done) break;
  }
  co_await wait_until_unheld(id);
  (void)co_await mark(id, RegionState::scrubbing);
  co_await give_back(id);
}

Task<void> Reclaim::give_back(RegionId id) {
  for (auto pause = std::chrono::nanoseconds(100ms);; pause = std::min(pause * 2, kRetryAtMost)) {
    const bool freed = co_await free(id);
    if (freed) co_return;
    co_await parts_.loop.sleep(pause);
  }
}

Task<void> Reclaim::wait_until_unheld(RegionId id) {
  if (Region* shared = parts_.directory.find(id); shared->pool->pool->shares_description()) {
    parts_.custody.drop(id);
    // Whoever closes last frees the pages: not the keeper, for whom others wait, so it goes first.
    co_await parts_.loop.sleep(kKeeperGoesFirst);
    auto last = std::make_shared<Fd>(parts_.directory.find(id)->extent.take_fd());
    auto let_go = [last] {
      last->reset();
      return true;
    };
    (void)co_await parts_.scrubber.run(let_go);
  }
  const Probing one(probing_);
  // After the kernel's last FORGET the backing file is put away a moment later: ask again soon, then calmly.
  for (std::chrono::nanoseconds pause = 1ms;; pause = std::min(pause * 2, between_probes())) {
    Region* region = parts_.directory.find(id);
    while ((!region->grants.empty() && !region->abandoned) || region->issuing > 0) {
      std::shared_ptr<Event> changed = region->changed;
      co_await changed->wait();
      region = parts_.directory.find(id);
    }
    region->pool->confiner->detach(id);
    if (region->abandoned) co_return co_await let_go_of_grants(id);
    const Result<bool> still = co_await held(id);
    if (still && !still.value()) co_return;
    if (!still) parts_.report.reclaim_failed(parts_.directory.find(id)->record.name, still.error());
    co_await parts_.loop.sleep(pause);
  }
}

Task<void> Reclaim::let_go_of_grants(RegionId id) {
  for (;;) {
    const Region* region = parts_.directory.find(id);
    release_grants(*region);
    if (region->grants.empty()) co_return;
    co_await parts_.loop.give_way();
  }
}

void Reclaim::release_grants(const Region& region) {
  for (std::size_t i = 0; i < kGrantsATurn && !region.grants.empty(); ++i) {
    const confine::GrantId grant = region.grants.by_id().begin()->first;
    parts_.directory.release(grant);
  }
}

std::chrono::nanoseconds Reclaim::between_probes() const {
  return std::max(kProbeEvery, kProbeShare * static_cast<std::int64_t>(probing_));
}

/// Where that is one cheap system call, the loop asks. Who has a device is found among all open files of the
/// machine, who has memory that shares its description among all its locks, and users can make both long.
Task<Result<bool>> Reclaim::held(RegionId id) {
  Region* region = parts_.directory.find(id);
  pool::Pool& pool = *region->pool->pool;
  if (pool.quick() && !pool.shares_description()) co_return pool.held(region->extent);
  auto ask = [&pool, &extent = region->extent] { return pool.held(extent); };
  co_return co_await parts_.prober.run(ask);
}

Task<bool> Reclaim::free(RegionId id) {
  Region* region = parts_.directory.find(id);
  if (region->record.volatile_memory) parts_.custody.drop(id);
  // What was published cannot be emptied first: whoever closes last frees its pages.
  if (region->unwritable) co_await parts_.loop.sleep(kKeeperGoesFirst);
  region = parts_.directory.find(id);
  pool::Pool& pool = *region->pool->pool;
  // The thread's alone meanwhile: a region without an extent is one that nobody asks for its memory.
  auto extent = std::make_shared<pool::Extent>(std::move(region->extent));
  auto scrub = [&pool, extent] { return pool.free(*extent, [](ByteCount, ByteCount) { Worker::pause(); }); };
  Result<void> freed = ok();
  if (costs_nothing(*region)) {
    freed = scrub();
  } else {
    freed = co_await parts_.scrubber.run(scrub);
  }
  region = parts_.directory.find(id);
  region->extent = std::move(*extent);
  if (freed) freed = co_await parts_.ledger.erase(id, ledger::strength_of(region->record));
  region = parts_.directory.find(id);
  if (!freed) {
    parts_.report.reclaim_failed(region->record.name, freed.error());
    co_return false;
  }
  parts_.directory.remove(id);  // Ends the charge.
  co_return true;
}

}  // namespace mapcap::broker
