// What an endpoint leaves when it ends: found in turns, taken away or handed over one by one.
#include "broker/ledger/strength.h"
#include "broker/regions/visit_in_pieces.h"
#include "policy/judge.h"

namespace mapcap::broker {

using policy::Verb;

Task<std::vector<RegionId>> Regions::owned_by(std::uint32_t owner) {
  std::vector<RegionId> owned;
  const auto collect = [&](const Region& region) {
    if (region.record.owner == owner && region.holds_name()) owned.push_back(region.id());
  };
  co_await visit_in_pieces(collect);
  co_return owned;
}

Task<bool> Regions::owns_any(std::uint32_t owner) {
  bool found = false;
  const auto look = [&](const Region& region) { found = found || region.record.owner == owner; };
  co_await visit_in_pieces(look);
  co_return found;
}

Task<std::vector<Regions::Opened>> Regions::opened_by(std::uint32_t holder) {
  std::vector<Opened> opened;
  const auto collect = [&](const Region& region) {
    const std::uint64_t grants = region.grants.held_by(holder);
    if (grants > 0 && region.record.state == RegionState::live)
      opened.push_back({region.id(), region.record.name, grants});
  };
  co_await visit_in_pieces(collect);
  co_return opened;
}

Task<Result<Revoked>> Regions::take_back(RegionId id, const policy::Subject& owner) {
  const Region* region = parts_.directory.find(id);
  if (region == nullptr || region->record.owner != owner.uid())
    co_return failure(ErrorCode::denied, "region number " + std::to_string(id.value) + " is not " +
                                             owner.describe() + "'s to revoke");
  MAPCAP_CO_TRY_VOID(policy_->authorize(owner, policy::action_on(as_judged(*region), {Verb::revoke})));
  co_return co_await reclaim_.revoke(id, {});
}

Task<Result<Revoked>> Regions::take_away(RegionId id) {
  return reclaim_.revoke(id, {});
}

Task<Result<void>> Regions::hand_over(RegionId id, const policy::Subject& heir) {
  Region* region = parts_.directory.find(id);
  if (region == nullptr || region->record.state != RegionState::live ||
      region->record.lifetime == LifetimeKind::connection) {
    co_return failure(ErrorCode::busy,
                      "region number " + std::to_string(id.value) + " is no longer to be had");
  }
  MAPCAP_CO_TRY_VOID(policy_->authorize(heir, policy::action_on(as_judged(*region), {Verb::create})));
  // At once, so that whatever else is recorded meanwhile (a renewal, a publish) has it too.
  const std::uint32_t owner = std::exchange(region->record.owner, heir.uid());
  const std::uint32_t group = std::exchange(region->record.group, heir.gid());
  const ledger::RegionRecord theirs = region->record;
  const Payer::Groups groups = heir.shared_groups();
  const Result<void> recorded = co_await parts_.ledger.put(theirs, strength_of(theirs));
  region = parts_.directory.find(id);
  if (!recorded) {
    if (region != nullptr) {
      region->record.owner = owner;
      region->record.group = group;
    }
    co_return recorded.error();
  }
  if (region == nullptr || region->record.state != RegionState::live)
    co_return failure(ErrorCode::busy, "region " + theirs.name + " ended meanwhile");
  // He was charged for it all the time, so no limit is passed.
  region->charge =
      parts_.quotas.take({theirs.owner, groups, theirs.pool, heir.user()}, region->charge.amount());
  co_return ok();
}

}  // namespace mapcap::broker
