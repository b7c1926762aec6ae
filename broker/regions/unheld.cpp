// A revoke of what nobody has any more: with its record it is gone.
//
// There is nobody to take it from, so nothing is cut, and nothing has to be resumed: memory that no record names is let
// go of by every start. What is left to do behind that is housekeeping of keeper and mint, which tells them of many
// regions at a time.
#include "broker/regions/reclaim.h"

#include "broker/ledger/strength.h"
#include "broker/regions/custody.h"
#include "broker/regions/reclaim_steps.h"

namespace mapcap::broker {

/// Whether nobody has a descriptor or a mapping: also none of whose end the keeper has not told yet. Where that takes
/// long to find out, or is not all that a revoke has to do, the answer is no.
bool Reclaim::nobody_has(const Region& region) {
  if (region.issuing > 0 || region.publishing > 0 || region.unwritable) return false;
  const pool::Pool& pool = *region.pool->pool;
  if (!region.record.volatile_memory || !pool.quick() || pool.shares_description()) return false;
  if (region.grants.empty() && !region.untracked) return true;
  // What its confiner has may count as a holder: grants that are ready, which go, and where it does not track them a
  // descriptor of its own. Whoever is given a grant after all attaches it again.
  confine::Confiner& confiner = *region.pool->confiner;
  confiner.drop_ready(region.id());
  if (!confiner.tracks_grants()) confiner.detach(region.id());
  const Result<bool> held = region.pool->pool->held(region.extent);
  return held && !held.value();
}

Task<Result<bool>> Reclaim::end_unheld(RegionId id) {
  Region* region = parts_.directory.find(id);
  if (!nobody_has(*region)) co_return false;
  // At once, so that nobody gets a grant while the ledger writes.
  region->record.state = RegionState::revoking;
  Result<void> erased = co_await parts_.ledger.erase(id, ledger::strength_of(region->record));
  region = parts_.directory.find(id);
  if (!erased) {
    region->record.state = RegionState::live;
    region->hurry = false;
    region->changed->notify();
    co_return erased.error();
  }
  region->cut = true;
  region->record.state = RegionState::scrubbing;
  parts_.ended(*region);
  tell_revoked(*region);
  region->changed->notify();
  region->pool->confiner->detach(id);
  // Its descriptor is the broker's own from here on.
  parts_.custody.drop(id);
  if (region->grants.size() <= kGrantsATurn) {
    release_grants(*region);
    pool::Pool& pool = *region->pool->pool;
    const bool freed = costs_nothing(*region) ? pool.free(region->extent, nullptr).has_value()
                                              : pool.free_at_once(region->extent);
    if (freed) {
      parts_.directory.remove(id);  // Ends the charge: before the answer.
      co_return true;
    }
  }
  spawn(put_away(id));
  co_return true;
}

Task<void> Reclaim::put_away(RegionId id) {
  co_await let_go_of_grants(id);
  co_await give_back(id);
}

}  // namespace mapcap::broker
