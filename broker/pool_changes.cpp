#include "broker/pool_changes.h"

#include <algorithm>

#include "base/pieces.h"
#include "policy/changes.h"
#include "policy/load/loader.h"

namespace mapcap::broker {

using policy::PoolSettings;

namespace {

policy::Problem problem(const PoolSettings& pool, const std::string& what) {
  return {policy::Severity::error, pool.at.position, "[pool." + pool.name + "]: " + what};
}

pool::Wanted wanted_of(const PoolSettings& settings) {
  if (!settings.capacity) return std::nullopt;
  if (const auto* percent = std::get_if<policy::Percent>(&*settings.capacity))
    return pool::Wanted(percent->value);
  return pool::Wanted(std::get<ByteCount>(*settings.capacity));
}

void compare(const PoolSettings& old, const PoolSettings& pool, PoolChanges::Problems& problems) {
  const std::size_t before = problems.size();
  const auto fixed = [&](bool same, const char* key) {
    if (!same)
      problems.push_back(problem(pool, std::string(key) + " changes only with a restart of mapcapd"));
  };
  fixed(old.backing == pool.backing, "backing");
  fixed(old.confinement == pool.confinement, "confinement");
  fixed(old.cache == pool.cache, "cache");
  fixed(old.wt_platform == pool.wt_platform, "wt_platform");
  fixed(old.populate == pool.populate, "populate");
  fixed(old.huge == pool.huge, "huge");
  fixed(old.secret == pool.secret, "secret");
  fixed(old.numa == pool.numa, "numa");
  fixed(old.path == pool.path, "path");
  fixed(old.devices == pool.devices, "devices");
  fixed(old.region == pool.region, "region");
  fixed(old.end_holders_after == pool.end_holders_after, "end_holders_after");
  fixed(old.resources == pool.resources, "resources");
  if (problems.size() != before) return;
  // What nobody has thought of above.
  PoolSettings same = old;
  same.capacity = pool.capacity;
  same.seals = pool.seals;
  same.pin_deadline = pool.pin_deadline;
  same.where = pool.where;
  if (same != pool) problems.push_back(problem(pool, "it changes only with a restart of mapcapd"));
}

}  // namespace

PoolChanges::PoolChanges(const policy::Policy& now, std::shared_ptr<const policy::Policy> next,
                         ServedPools& pools, bool may_kill)
    : now_(now), next_(std::move(next)), pools_(pools), may_kill_(may_kill) {
  for (const PoolSettings& settings : next_->pools()) {
    const PoolSettings* old = policy::pool_named(now_, settings.name);
    changes_.push_back({settings, old, old == nullptr ? nullptr : find_pool(pools_, settings.name), {}, {}});
  }
}

bool PoolChanges::goes(const std::string& name) const {
  return policy::pool_named(*next_, name) == nullptr;
}

PoolChanges::Problems PoolChanges::not_in_service() const {
  Problems problems;
  for (const Change& change : changes_) {
    const PoolSettings& pool = change.settings;
    if (change.old != nullptr) {
      compare(*change.old, pool, problems);
      continue;
    }
    if (pool.end_holders_after && !may_kill_) {
      problems.push_back(problem(
          pool,
          "end_holders_after needs a restart of mapcapd where no pool had it: it has given up CAP_KILL"));
    }
    for (const PoolSettings& old : now_.pools()) {
      const std::string both = policy::shared_backing(old, pool);
      if (!goes(old.name) || both.empty()) continue;
      problems.push_back(problem(pool, "it takes the place of pool " + old.name + " (both have " + both +
                                           "), which takes a restart of mapcapd"));
    }
  }
  return problems;
}

PoolChanges::Problems PoolChanges::in_the_way(const Quotas& quotas, const RegionsIn& regions_in) const {
  Problems problems;
  for (const PoolSettings& old : now_.pools()) {
    if (!goes(old.name)) continue;
    // What is charged and no region is on its way to be one, or to be none.
    const std::uint64_t regions = std::max(regions_in(old.name), quotas.pool_regions(old.name));
    if (regions == 0 && quotas.pool_used(old.name) == 0) continue;
    problems.push_back({policy::Severity::error, policy::Position{},
                        "pool " + old.name + " is not in the file any more, but " +
                            counted(regions, "region") + " in it " + (regions == 1 ? "is" : "are") +
                            ": put the pool back, or revoke them first"});
  }
  for (const Change& change : changes_) {
    const std::uint64_t used = quotas.pool_used(change.settings.name);
    if (!change.capacity || change.capacity->value >= used) continue;
    problems.push_back(problem(change.settings, "capacity " + format_bytes(*change.capacity) +
                                                    " is less than what is in use, " + round_bytes({used})));
  }
  return problems;
}

PoolChanges::Problems PoolChanges::prepare(const OpenPool& open, const pool::Recorded& recorded) {
  Problems problems;
  for (Change& change : changes_) {
    if (change.served != nullptr) {
      if (change.old->capacity == change.settings.capacity) continue;
      const Result<ByteCount> capacity = change.served->pool->capacity_for(wanted_of(change.settings));
      if (capacity) change.capacity = capacity.value();
      if (!capacity) problems.push_back(problem(change.settings, capacity.error().sentence));
      continue;
    }
    Result<std::unique_ptr<ServedPool>> opened = open(change.settings);
    if (!opened) {
      // Its sentence begins with the place, which a problem has beside it.
      std::string sentence = opened.error().sentence;
      const std::string place = change.settings.where + ": ";
      if (sentence.starts_with(place)) sentence.erase(0, place.size());
      problems.push_back(problem(change.settings, sentence));
      continue;
    }
    change.opened = std::move(opened.value());
    if (const Result<void> swept = change.opened->pool->sweep(recorded); !swept)
      leftovers_.emplace_back(change.settings.name, swept.error());
  }
  return problems;
}

ServedPools PoolChanges::commit(Quotas& quotas) {
  ServedPools old = std::move(pools_);
  pools_.clear();
  for (Change& change : changes_) {
    if (change.opened) {
      quotas.add_pool(change.settings.name, change.opened->facts().capacity.value);
      pools_.push_back(std::move(change.opened));
      continue;
    }
    const auto stays =
        std::find_if(old.begin(), old.end(), [&](const auto& one) { return one.get() == change.served; });
    ServedPool& served = **stays;
    const bool other_seals = change.old->seals != change.settings.seals;
    if (change.capacity || other_seals) {
      pool::Facts facts = served.facts();
      facts.capacity = change.capacity.value_or(facts.capacity);
      if (other_seals) facts.seals = change.settings.seals;
      served.told = std::move(facts);
      quotas.add_pool(change.settings.name, served.facts().capacity.value);
    }
    if (change.old->pin_deadline != change.settings.pin_deadline) {
      served.pool->set_cut_deadline(
          std::chrono::duration_cast<std::chrono::milliseconds>(change.settings.pin_deadline));
    }
    pools_.push_back(std::move(*stays));
    old.erase(stays);
  }
  for (const auto& gone : old) quotas.remove_pool(gone->facts().name);
  return old;
}

}  // namespace mapcap::broker
