#include "broker/regions/reclaim.h"

#include <algorithm>

#include "base/units.h"
#include "broker/ledger/strength.h"
#include "broker/regions/reclaim_steps.h"

namespace mapcap::broker {

using namespace std::chrono_literals;
using schema::Notice;
using schema::NoticeKind;

namespace {

/// What scrubbing and recording the end of a region may take that is not waited for its holders.
constexpr std::chrono::nanoseconds kEndWithin = 60s;

std::uint64_t held_bytes(const Region& region) {
  return region.charge.amount().bytes;
}

Failure gone(RegionId id) {
  return failure(ErrorCode::not_found, "region number " + std::to_string(id.value) + " is gone");
}

}  // namespace

void Reclaim::revoke_in_background(RegionId id) {
  spawn([](Reclaim& self, RegionId region) -> Task<void> {
    for (auto pause = std::chrono::nanoseconds(100ms);; pause = std::min(pause * 2, kRetryAtMost)) {
      Result<Revoked> done = co_await self.revoke(region, {});
      // A quarantined region is in finish()'s hands; a ledger that refuses is asked again.
      if (done.has_value() || done.error().code != ErrorCode::io) co_return;
      Region* still = self.parts_.directory.find(region);
      if (still == nullptr) co_return;
      self.parts_.report.reclaim_failed(still->record.name, done.error());
      co_await self.parts_.loop.sleep(pause);
    }
  }(*this, id));
}

void Reclaim::resume(RegionId id) {
  Region* region = parts_.directory.find(id);
  if (region->record.state == RegionState::revoking) {
    spawn(resume_cut(id));
    return;
  }
  region->cut = region->record.state != RegionState::quarantined;
  charge_holders(*region);
  spawn(finish(id));
}

/// The revoke was under way when the broker died: whether the memory was cut, or half of it, is not known,
/// and cutting repeats. The record says it already, so the ledger is not asked: it could refuse, and a region
/// that may be half cut is not to be had again.
Task<void> Reclaim::resume_cut(RegionId id) {
  parts_.ended(*parts_.directory.find(id));
  (void)co_await cut(id);  // finish() repeats what fails.
  spawn(finish(id));
}

Task<Result<Revoked>> Reclaim::revoke(RegionId id, Drain drain) {
  Region* region = parts_.directory.find(id);
  if (region == nullptr) co_return gone(id);
  if (region->record.state == RegionState::lost) co_return co_await forget_lost(id);
  if (region->record.state != RegionState::live) co_return co_await join(id, drain);
  if (drain.wanted && drain.within == 0ns && region->pool->pool->shares_description()) {
    co_return failure(ErrorCode::unsupported,
                      "nobody can tell when the holders of region " + region->record.name +
                          " have finished while it is served: give them a time (--within), or none");
  }

  const Result<bool> ended = co_await end_unheld(id);
  if (!ended) co_return ended.error();
  if (ended.value()) co_return Revoked{};
  region = parts_.directory.find(id);
  region->draining = drain.wanted;
  if (Result<void> marked = co_await mark(id, RegionState::revoking); !marked) {
    parts_.directory.find(id)->draining = false;
    co_return marked.error();
  }
  if (drain.wanted) co_await drain_holders(id, drain);
  region = parts_.directory.find(id);
  region->draining = false;
  parts_.ended(*region);
  Result<void> cut_done = co_await cut(id);
  if (!cut_done) {
    spawn(finish(id));
    co_return cut_done.error();
  }
  region = parts_.directory.find(id);
  tell_revoked(*region);
  bool is_held = !region->grants.empty() || region->untracked;
  if (region->grants.empty() && region->untracked && region->issuing == 0 &&
      !region->pool->pool->shares_description()) {
    region->pool->confiner->detach(id);  // Its own hold on the memory would count as a holder.
    const Result<bool> still = co_await held(id);
    if (still) is_held = still.value();
    region = parts_.directory.find(id);
  }
  const Revoked revoked{is_held ? held_bytes(*region) : 0, static_cast<std::uint32_t>(region->grants.size())};
  spawn(finish(id));
  co_return revoked;
}

void Reclaim::tell_revoked(const Region& region) {
  Notice notice;
  notice.kind = NoticeKind::revoked;
  notice.id = region.id();
  notice.name = region.record.name;
  parts_.notifier.notify(region, notice);
}

Task<Result<Revoked>> Reclaim::join(RegionId id, Drain drain) {
  // Who does not want to wait for the holders, or not so long, need not because somebody else does.
  Loop::Timer deadline;
  auto hurry = [this, id] {
    Region* drained = parts_.directory.find(id);
    if (drained == nullptr) return;
    drained->hurry = true;
    drained->changed->notify();
  };
  if (!drain.wanted) {
    hurry();
  } else if (drain.within > 0ns) {
    deadline = parts_.loop.after(drain.within, hurry);
  }
  for (;;) {
    Region* region = parts_.directory.find(id);
    if (region == nullptr) co_return Revoked{};
    if (region->cut) {
      co_return Revoked{held_bytes(*region), static_cast<std::uint32_t>(region->grants.size())};
    }
    if (region->record.state == RegionState::quarantined) {
      co_return failure(ErrorCode::timed_out,
                        "region " + region->record.name +
                            " is quarantined: somebody pins its memory; it goes when they let go");
    }
    if (region->record.state == RegionState::live) {
      co_return failure(ErrorCode::io, "the revoke that was under way failed; try again");
    }
    std::shared_ptr<Event> changed = region->changed;
    co_await changed->wait();
  }
}

Task<void> Reclaim::drain_holders(RegionId id, Drain drain) {
  Region* region = parts_.directory.find(id);
  Notice notice;
  notice.kind = NoticeKind::revoking;
  notice.id = id;
  notice.name = region->record.name;
  notice.within = drain.within;
  parts_.notifier.notify(*region, notice);

  const Probing one(probing_);
  bool late = false;
  Loop::Timer deadline;
  if (drain.within > 0ns) {
    deadline = parts_.loop.after(drain.within, [&late, changed = region->changed] {
      late = true;
      changed->notify();
    });
  }
  while (!late) {
    region = parts_.directory.find(id);
    if (region->hurry) co_return;
    if (region->grants.empty() && region->issuing == 0) {
      if (!region->untracked) co_return;
      if (region->pool->pool->shares_description()) {
        // Its holders get the whole time: they cannot be told from the broker.
        std::shared_ptr<Event> later = region->changed;
        co_await later->wait();
        continue;
      }
      region->pool->confiner->detach(id);  // Its own hold on the memory would count as a holder.
      const Result<bool> still = co_await held(id);
      if (still && !still.value()) co_return;
      co_await parts_.loop.sleep(between_probes());
      continue;
    }
    std::shared_ptr<Event> changed = region->changed;
    co_await changed->wait();
  }
}

Task<Result<void>> Reclaim::end(RegionId id) {
  Region* region = parts_.directory.find(id);
  if (region == nullptr) co_return ok();
  region->abandoned = true;
  region->changed->notify();
  Result<Revoked> revoked = co_await revoke(id, {});
  bool late = false;
  Loop::Timer deadline;
  for (;;) {
    region = parts_.directory.find(id);
    if (region == nullptr) co_return ok();
    if (!revoked || late) break;
    std::shared_ptr<Event> changed = region->changed;
    deadline = parts_.loop.after(kEndWithin, [&late, changed] {
      late = true;
      changed->notify();
    });
    co_await changed->wait();
  }
  region->abandoned = false;  // The broker goes on, and so does whoever waits for its holders.
  if (!revoked) co_return revoked.error();
  co_return failure(ErrorCode::timed_out, "region " + region->record.name +
                                              " was taken from its holders, but its memory is still being " +
                                              "put away after " + format_duration(kEndWithin));
}

Task<Result<void>> Reclaim::mark(RegionId id, RegionState state) {
  Region* region = parts_.directory.find(id);
  const RegionState before = region->record.state;
  region->record.state = state;  // At once, so that nobody gets a grant while the ledger writes.
  region->pool->confiner->drop_ready(
      id);  // Nor is one kept, which nobody has and which would hold its memory.
  Result<void> written = co_await parts_.ledger.put(region->record, ledger::strength_of(region->record));
  region = parts_.directory.find(id);
  if (!written) {
    region->record.state = before;
    region->hurry = false;  // That was said of this drain, not of the next.
    region->changed->notify();
  }
  co_return written;
}

Task<Result<Revoked>> Reclaim::forget_lost(RegionId id) {
  Region* region = parts_.directory.find(id);
  MAPCAP_CO_TRY_VOID(co_await parts_.ledger.erase(id, ledger::strength_of(region->record)));
  region = parts_.directory.find(id);
  if (region == nullptr) co_return Revoked{};
  parts_.ended(*region);
  // A keeper that was adopted may still have its backing.
  if (region->pool != nullptr) region->pool->confiner->detach(id);
  parts_.directory.remove(id);
  co_return Revoked{};
}

}  // namespace mapcap::broker
