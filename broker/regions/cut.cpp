// Where a revoke cuts: from here on nobody can read or write what is in the region.
#include "broker/regions/reclaim.h"

#include <algorithm>

#include "base/units.h"
#include "broker/ledger/strength.h"
#include "broker/regions/reclaim_steps.h"

namespace mapcap::broker {

using namespace std::chrono_literals;

namespace {

/// How often holders are asked for that may yet be ended, and how long the kernel may take to end them.
constexpr std::chrono::nanoseconds kHolderPause = 100ms;
constexpr std::chrono::nanoseconds kDying = 5s;

}  // namespace

Task<Result<void>> Reclaim::cut(RegionId id) {
  Region* region = parts_.directory.find(id);
  pool::Pool& pool = *region->pool->pool;
  auto take = [&pool, &extent = region->extent, seal = region->record.seal] {
    return pool.cut(extent, seal);
  };
  Result<void> done = ok();
  bool zeroed = false;
  const bool sealed = region->record.seal == SealKind::sealed;
  if (region->unwritable && sealed) zeroed = co_await zero_unwritable(id);
  if (zeroed) {
    // Nothing is left to take.
  } else if (costs_nothing(*parts_.directory.find(id))) {
    done = take();
  } else {
    done = co_await parts_.worker.run(take);
  }
  // A publish that was under way may have put its seal on meanwhile.
  if (!done && sealed && parts_.directory.find(id)->unwritable) {
    zeroed = co_await zero_unwritable(id);
    if (zeroed) done = ok();
  }
  if (!done && pool.facts().end_holders_after) done = co_await outlast_holders(id);
  region = parts_.directory.find(id);
  if (done) {
    region->cut = true;
    charge_holders(*region);
    Result<void> marked = co_await mark(id, RegionState::draining);
    if (!marked) {
      // The memory is cut whatever the record says, and a restart would cut it again. Go on.
      region = parts_.directory.find(id);
      region->record.state = RegionState::draining;
      parts_.report.reclaim_failed(region->record.name, marked.error());
    }
  } else if (region->record.state != RegionState::quarantined) {  // Once: finish() tries again and again.
    Result<void> marked = co_await mark(id, RegionState::quarantined);
    region = parts_.directory.find(id);
    region->record.state = RegionState::quarantined;
    parts_.report.quarantined(region->record.name, done.error());
    if (!marked) parts_.report.reclaim_failed(region->record.name, marked.error());
  }
  region->changed->notify();
  co_return done;
}

/// Under the seal of a sealed region that was published nothing can be punched out; but clones' mappings do not heed it
/// (Linux 6.14 and later, mm/memfd.c), and nobody but the broker is given a writable one. False where that is not so:
/// then the memory comes back when its holders let go.
Task<bool> Reclaim::zero_unwritable(RegionId id) {
  Region* region = parts_.directory.find(id);
  confine::Confiner& confiner = *region->pool->confiner;
  if (confiner.kind() != Confinement::clone) co_return false;
  confine::Label label;
  label.name = region->record.name;
  label.size = region->record.size;
  label.rights = Access::read_write;
  ++region->issuing;  // The memory stays meanwhile.
  Result<confine::Issued> issued = co_await confiner.issue(id, std::move(label), region->extent.fd());
  Result<void> zeroed = failure(ErrorCode::unavailable, "no grant was made");
  if (issued) {
    region = parts_.directory.find(id);
    auto zero = [&pool = *region->pool->pool, &extent = region->extent, &grant = issued.value().fd] {
      Result<void> done = pool.zero_through(extent, grant.borrow());
      grant.reset();
      return done;
    };
    zeroed = co_await parts_.worker.run(zero);
  }
  region = parts_.directory.find(id);
  --region->issuing;
  region->changed->notify();
  co_return zeroed.has_value();
}

Task<Result<void>> Reclaim::outlast_holders(RegionId id) {
  Region* region = parts_.directory.find(id);
  pool::Pool& pool = *region->pool->pool;
  const std::string name = region->record.name;
  const std::chrono::nanoseconds patience = *pool.facts().end_holders_after;
  auto take = [&pool, &extent = region->extent, seal = region->record.seal] {
    return pool.cut(extent, seal);
  };
  auto end = [&pool, &extent = region->extent] { return pool.end_holders(extent); };
  bool ended = false;
  for (std::chrono::nanoseconds waited{0};; waited += kHolderPause) {
    if (waited >= patience && !ended) {
      ended = true;
      Result<std::size_t> killed = co_await parts_.worker.run(end);
      if (killed) parts_.report.holders_ended(name, killed.value());
      if (!killed) parts_.report.reclaim_failed(name, killed.error());
    }
    co_await parts_.loop.sleep(kHolderPause);
    Result<void> done = co_await parts_.worker.run(take);
    if (done || waited >= patience + kDying) co_return done;
  }
}

/// What is left of a region that its owner could take away is left by those who hold on to it. As long as the
/// owner is none of them it is charged to one who is, whatever his limits: the owner could do nothing about
/// it. A sealed region stays its owner's: that he could not take it away was his choice.
void Reclaim::charge_holders(Region& region) {
  if (!region.cut || region.record.seal != SealKind::revocable) return;
  const Grant* holder = region.grants.one_of(region.charge.payer());
  if (holder == nullptr || holder->charge.payer() == region.charge.payer()) return;
  Payer payer = holder->charge.taken_by();
  payer.pool = region.record.pool;
  region.charge = parts_.quotas.restore(std::move(payer), region.charge.amount());
}

}  // namespace mapcap::broker
