#include "broker/regions/reclaim.h"

#include <algorithm>
#include <memory>

#include "broker/books/pools.h"
#include "broker/ledger/strength.h"
#include "broker/regions/custody.h"

namespace mapcap::broker {

using namespace std::chrono_literals;
using schema::Notice;
using schema::NoticeKind;
using schema::Revoked;

namespace {

/// How often untracked memory is asked whether it is still held; the charge must end within 100 ms of the
/// last exit.
constexpr std::chrono::nanoseconds kProbeEvery = 50ms;
/// And how much of that for each region that is asked about: thousands of them must not fill the loop's time.
constexpr std::chrono::nanoseconds kProbeShare = 100us;
constexpr std::chrono::nanoseconds kRetryAtMost = 5s;
/// What the keeper gets to close a descriptor that it was told to drop.
constexpr std::chrono::nanoseconds kKeeperGoesFirst = 20ms;
/// How often holders are asked for that may yet be ended, and how long the kernel may take to end them.
constexpr std::chrono::nanoseconds kHolderPause = 100ms;
constexpr std::chrono::nanoseconds kDying = 5s;
/// What scrubbing and recording the end of a region may take that is not waited for its holders.
constexpr std::chrono::nanoseconds kEndWithin = 60s;
/// Grants that are let go of in one turn of the loop.
constexpr int kGrantsATurn = 32;

ledger::Strength strength_of(const Region& region) {
  return ledger::strength_of(region.record);
}

ByteCount held_bytes(const Region& region) {
  return {region.charge.amount().bytes};
}

/// To cut and to free: nobody but the broker has ever had it, so there is neither a mapping nor a page.
bool costs_nothing(const Region& region) {
  return region.pool->pool->quick() && !region.touched;
}

Failure gone(RegionId id) {
  return failure(ErrorCode::not_found, "region number " + std::to_string(id.value) + " is gone");
}

/// Counts a region that is asked about.
class Probing {
 public:
  explicit Probing(std::size_t& count) : count_(count) { ++count_; }
  Probing(const Probing&) = delete;
  Probing& operator=(const Probing&) = delete;
  ~Probing() { --count_; }

 private:
  std::size_t& count_;
};

}  // namespace

std::chrono::nanoseconds Reclaim::between_probes() const {
  return std::max(kProbeEvery, kProbeShare * static_cast<std::int64_t>(probing_));
}

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
  Notice notice;
  notice.kind = NoticeKind::revoked;
  notice.id = id;
  notice.name = region->record.name;
  parts_.notifier.notify(*region, notice);
  bool is_held = !region->grants.empty() || region->untracked;
  if (region->grants.empty() && region->untracked && region->issuing == 0 &&
      !region->pool->pool->shares_description()) {
    region->pool->confiner->detach(id);  // Its own hold on the memory would count as a holder.
    const Result<bool> still = co_await held(id);
    if (still) is_held = still.value();
    region = parts_.directory.find(id);
  }
  const Revoked revoked{is_held ? held_bytes(*region) : ByteCount{},
                        static_cast<std::uint32_t>(region->grants.size())};
  spawn(finish(id));
  co_return revoked;
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
  Result<void> written = co_await parts_.ledger.put(region->record, strength_of(*region));
  region = parts_.directory.find(id);
  if (!written) {
    region->record.state = before;
    region->changed->notify();
  }
  co_return written;
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

Task<Result<Revoked>> Reclaim::forget_lost(RegionId id) {
  Region* region = parts_.directory.find(id);
  MAPCAP_CO_TRY_VOID(co_await parts_.ledger.erase(id, strength_of(*region)));
  region = parts_.directory.find(id);
  if (region == nullptr) co_return Revoked{};
  parts_.ended(*region);
  // A keeper that was adopted may still have its backing.
  if (region->pool != nullptr) region->pool->confiner->detach(id);
  parts_.directory.remove(id);
  co_return Revoked{};
}

Task<void> Reclaim::finish(RegionId id) {
  for (auto pause = std::chrono::nanoseconds(100ms); !parts_.directory.find(id)->cut;
       pause = std::min(pause * 2, kRetryAtMost)) {
    co_await parts_.loop.sleep(pause);
    Result<void> done = co_await cut(id);
    if (done) break;
  }
  co_await wait_until_unheld(id);
  (void)co_await mark(id, RegionState::scrubbing);
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
    for (int i = 0; i < kGrantsATurn && !region->grants.empty(); ++i) {
      const confine::GrantId grant = region->grants.by_id().begin()->first;
      parts_.directory.release(grant);
    }
    if (region->grants.empty()) co_return;
    co_await parts_.loop.give_way();
  }
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
  if (freed) freed = co_await parts_.ledger.erase(id, strength_of(*region));
  region = parts_.directory.find(id);
  if (!freed) {
    parts_.report.reclaim_failed(region->record.name, freed.error());
    co_return false;
  }
  parts_.directory.remove(id);  // Ends the charge.
  co_return true;
}

}  // namespace mapcap::broker
