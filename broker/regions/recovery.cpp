// What a broker does with what the one before it left behind: Regions::recover and Regions::keeper_replaced.
//
// For each record, memory and state decide:
//
//     live, memory there         -> served again; its lifetime goes on
//     live, memory gone          -> lost: listed until revoked, costs nothing
//     lost, but memory there     -> live again: a device or filesystem was missing for a while
//     revoking ... quarantined   -> taken further on its way; with its memory gone, the record goes too
//     lost                       -> stays listed; DRAM does not come back
//
// Memory that no record names was carved for a create that never was acknowledged: it is let go.
#include <algorithm>
#include <unordered_map>

#include "broker/ledger/strength.h"
#include "broker/regions/regions.h"

namespace mapcap::broker {

using ledger::RegionRecord;

namespace {

/// A change of a record that nobody waits for: when it fails, the next start finds the same and does it
/// again.
Task<void> record_in_background(ledger::Ledger& ledger, RegionRecord record) {
  const ledger::Strength strength = strength_of(record);
  (void)co_await ledger.put(std::move(record), strength);
}

Task<void> erase_in_background(ledger::Ledger& ledger, RegionId id, ledger::Strength strength) {
  (void)co_await ledger.erase(id, strength);
}

}  // namespace

void Regions::recover(Inheritance inheritance) {
  std::unordered_map<std::uint64_t, Fd> memory;
  for (keeper::HeldMemory& held : inheritance.memory) memory[held.region.value] = std::move(held.fd);
  std::uint64_t lost = 0;
  std::uint64_t reclaiming = 0;
  std::uint64_t live = 0;
  // Whoever is lost comes after those who are not: its device may be theirs by now.
  std::stable_partition(inheritance.records.begin(), inheritance.records.end(),
                        [](const RegionRecord& record) { return record.state != RegionState::lost; });
  records_complete_ = inheritance.damaged == 0;
  pool::Recorded recorded{{}, records_complete_};
  for (RegionRecord& record : inheritance.records) {
    if (!record.volatile_memory) recorded.words.insert(record.extent);
    Fd fd;
    if (auto found = memory.find(record.id.value); found != memory.end()) {
      fd = std::move(found->second);
      memory.erase(found);
    }
    recover_one(std::move(record), std::move(fd));
  }
  for (const auto& [id, fd] : memory) parts_.custody.drop(RegionId{id});

  for (const confine::LiveGrant& grant : inheritance.grants) {
    Region* region = parts_.directory.find(grant.region);
    if (region == nullptr || region->extent.empty()) continue;
    const Amount one{0, 0, 1, 0};
    Charge charge = parts_.quotas.restore({grant.holder.uid, grant.holder.gid, region->record.pool}, one);
    parts_.directory.track(*region, Grant{grant.grant, grant.rights, grant.holder.uid, std::move(charge)});
  }
  for (const auto& served : parts_.pools) {
    if (Result<void> swept = served->pool->sweep(recorded); !swept) {
      parts_.report.leftovers_stay(served->facts().name, swept.error());
    }
  }
  parts_.directory.visit_all([&](const Region& region) {
    switch (region.record.state) {
      case RegionState::live:
        ++live;
        break;
      case RegionState::lost:
        ++lost;
        break;
      default:
        ++reclaiming;
    }
  });
  // Only now, with all grants known, may reclaim look at them.
  std::vector<RegionId> under_way;
  parts_.directory.visit_all([&](const Region& region) {
    if (region.record.state != RegionState::live && region.record.state != RegionState::lost)
      under_way.push_back(region.id());
  });
  for (RegionId id : under_way) reclaim_.resume(id);
  std::vector<RegionId> published;
  parts_.directory.visit_all([&](const Region& region) {
    if (region.record.state != RegionState::live) return;
    if (region.published ? !region.grants.empty() : region.unwritable) published.push_back(region.id());
  });
  for (RegionId id : published) spawn(resume_publish(id));
  if (lost_now_.regions > 0)
    parts_.report.regions_lost(lost_now_.regions, lost_now_.users.size(), lost_now_.example);
  lost_now_ = {};
  parts_.report.recovered(live, lost, reclaiming, inheritance.damaged);
}

/// False when the region was on its way out and its memory has gone ahead.
bool Regions::reattach(Region& region, Fd memory) {
  RegionRecord& record = region.record;
  const bool was_lost = record.state == RegionState::lost;
  if (was_lost && (region.pool == nullptr || !region.may_return())) return true;
  if (was_lost) record.state = RegionState::live;
  Result<pool::Extent> extent = region.pool->pool->reattach(record, std::move(memory));
  if (extent) {
    region.extent = std::move(extent.value());
    if (was_lost) parts_.report.region_found(record.name);
  } else if (record.state != RegionState::live) {
    return false;
  } else {
    record.state = RegionState::lost;
    // Of memory they are told together: after both deaths there are as many as there were.
    if (!was_lost && !record.volatile_memory) parts_.report.region_lost(record.name, extent.error());
    if (!was_lost && record.volatile_memory) lost_now_.add(record);
  }
  const bool is_lost = record.state == RegionState::lost;
  if (was_lost != is_lost) spawn(record_in_background(parts_.ledger, record));
  return true;
}

void Regions::recover_one(RegionRecord known, Fd memory) {
  auto region = std::make_unique<Region>(parts_.loop);
  region->record = std::move(known);
  RegionRecord& record = region->record;
  region->pool = find_pool(parts_.pools, record.pool);
  // Of grants of before there may always be some that nobody knows: where no word of them is sent, and where the
  // keeper that is adopted came after one that died. So the memory itself is asked once the known ones are gone.
  region->untracked = true;
  region->touched = true;  // By whomever the broker before let.
  // The ledger leaves that to the pool.
  if (region->pool != nullptr && region->pool->facts().seals.front() == SealKind::irrevocable)
    record.seal = SealKind::irrevocable;

  if (!reattach(*region, std::move(memory))) {
    spawn(erase_in_background(parts_.ledger, record.id, strength_of(record)));
    return;
  }
  if (record.published_unix_ns != 0) region->published = record.published_unix_ns;
  region->unwritable = !region->extent.empty() && region->pool->pool->unwritable(region->extent);
  if (record.volatile_memory && !region->extent.empty()) parts_.custody.guard(record.id, region->extent.fd());
  if (record.state != RegionState::lost && region->pool->confiner->kind() == Confinement::lsm) {
    // The inode's mark may be gone (the programs were unpinned) while descriptors of it are out.
    Result<void> confined = region->pool->confiner->attach(record.id, region->extent.fd(), record.size);
    if (!confined) parts_.report.reclaim_failed(record.name, confined.error());
  }
  if (record.state != RegionState::lost) {
    const Amount cost{record.size.value, 1, 0, 0};
    // Root may give a region to any group; of everybody else it says that he was a member.
    Payer payer = record.owner == 0
                      ? Payer(0, std::make_shared<const std::vector<std::uint32_t>>(), record.pool)
                      : Payer(record.owner, record.group, record.pool);
    region->charge = parts_.quotas.restore(std::move(payer), cost);
  }
  if (record.state == RegionState::live || region->may_return()) {
    if (record.lifetime == LifetimeKind::connection)
      connections_.restore(record.session, record.owner, record.id);
    if (record.lifetime == LifetimeKind::ttl) {
      const bool rebooted = record.boot != parts_.boot;
      expiry_.schedule(record.id, remaining(record, parts_.boot, parts_.clock));
      if (rebooted) spawn(record_in_background(parts_.ledger, record));
    }
  }
  parts_.directory.add(std::move(region));
}

void Regions::keeper_replaced() {
  parts_.report.keeper_replaced(parts_.keeper.pid());
  parts_.directory.visit_all([&](Region& region) {
    if (region.extent.empty()) return;
    // Their FORGETs died with the old keeper: from now on the memory itself must be asked.
    std::vector<confine::GrantId> orphans;
    for (const auto& [grant, one] : region.grants.by_id()) orphans.push_back(grant);
    region.untracked = region.untracked || !orphans.empty() || region.issuing > 0;
    for (confine::GrantId grant : orphans) parts_.directory.release(grant);
  });
}

}  // namespace mapcap::broker
