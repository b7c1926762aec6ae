// How regions end that are to end with the broker, and how many there are.
//
// Each is revoked as its owner would revoke it, many at once, so that the ledger commits many together; then its
// record goes, whoever still has the memory: with broker and keeper nobody is left who could be told when he lets go.
// A broker that dies on the way leaves every region either whole, or on a way that the next start takes further.
#include <algorithm>
#include <array>
#include <set>
#include <unordered_set>

#include "broker/regions/visit_in_pieces.h"

namespace mapcap::broker {

using namespace std::chrono_literals;

namespace {

/// Enough for the ledger's commits and all workers, and no more than that waits.
constexpr std::size_t kAtOnce = 64;
/// How often it is looked whether creates that were under way have ended.
constexpr std::chrono::nanoseconds kLook = 10ms;

}  // namespace

Task<ShutdownResult> Regions::count_volatile() {
  ShutdownResult told;
  std::set<std::uint32_t> users;
  const auto count = [&](const Region& region) {
    if (!region.record.volatile_memory) {
      ++told.lasting;
      return;
    }
    ++told.regions;
    told.bytes += region.record.size.value;
    users.insert(region.record.owner);
  };
  co_await visit_in_pieces(count);
  told.users = users.size();
  co_return told;
}

Task<std::vector<StateCount>> Regions::count_states() {
  std::array<std::uint64_t, static_cast<std::size_t>(RegionState::lost) + 1> counts{};
  const auto count = [&counts](const Region& region) {
    ++counts.at(static_cast<std::size_t>(region.record.state));
  };
  co_await visit_in_pieces(count);
  std::vector<StateCount> told;
  for (std::size_t state = 0; state < counts.size(); ++state) {
    if (counts.at(state) > 0) told.push_back({static_cast<RegionState>(state), counts.at(state)});
  }
  co_return told;
}

/// Those that are being ended at once.
struct Regions::Crew {
  explicit Crew(Loop& loop) : done(loop) {}
  std::size_t at_work = 0;
  Event done;  ///< One has come to its end.
  std::optional<Failure> refused;
  std::unordered_set<std::uint64_t> quarantined;
};

Task<void> Regions::end_one(std::shared_ptr<Crew> crew, RegionId id) {
  Result<void> ended = co_await reclaim_.end(id);
  if (!ended) {
    const Region* left = parts_.directory.find(id);
    if (left != nullptr && left->record.state == RegionState::quarantined) {
      crew->quarantined.insert(id.value);
    } else if (left != nullptr && !crew->refused) {
      crew->refused = std::move(ended.error());
    }
  }
  --crew->at_work;
  crew->done.notify();
}

Task<Result<ShutdownResult>> Regions::end_all_volatile() {
  while (creating_ > 0) co_await parts_.loop.sleep(kLook);
  ShutdownResult told = co_await count_volatile();
  const auto crew = std::make_shared<Crew>(parts_.loop);
  for (;;) {
    std::vector<RegionId> left;
    const auto collect = [&](const Region& region) {
      if (region.record.volatile_memory && !crew->quarantined.contains(region.id().value))
        left.push_back(region.id());
    };
    co_await visit_in_pieces(collect);
    if (left.empty()) break;
    Slice slice(parts_.loop.time());
    for (const RegionId id : left) {
      while (crew->at_work >= kAtOnce) co_await crew->done.wait();
      if (crew->refused) break;
      ++crew->at_work;
      // To its end at once, where nobody has touched the memory and no disk is waited for.
      spawn(end_one(crew, id));
      if (!slice.over()) continue;
      co_await parts_.loop.give_way();
      slice = Slice(parts_.loop.time());
    }
    while (crew->at_work > 0) co_await crew->done.wait();
    if (crew->refused) co_return *crew->refused;
  }
  told.quarantined = crew->quarantined.size();
  co_await parts_.custody.flushed();
  co_return told;
}

Task<Result<ShutdownResult>> Regions::end_volatile() {
  if (ending_) co_return failure(ErrorCode::busy, "all regions are being ended already");
  ending_ = true;
  Result<ShutdownResult> told = co_await end_all_volatile();
  if (!told) ending_ = false;
  co_return told;
}

}  // namespace mapcap::broker
