// The broker's threads, but for the issuer's (keeper/issuer.h) and the mint's watcher.
#pragma once

#include <cstddef>

#include "broker/turns/fair_gate.h"
#include "broker/wait/loop.h"
#include "broker/wait/worker.h"

namespace mapcap::broker {

struct Workers {
  /// Starts them. `loop` outlives this.
  explicit Workers(Loop& loop)
      : ledger(loop, 1),
        work(loop, kWorkers),
        scrubber(loop, kScrubbers, Worker::Pace::patient),
        prober(loop, 1, Worker::Pace::patient),
        sealer(loop, kSealers),
        labels(loop, 1),
        accounts(loop, kAccountLookups, Worker::Pace::patient) {}

  /// More than one user has requests under way, so that nobody alone takes all of them.
  static constexpr std::size_t kWorkers = 2 * FairGate::kConcurrent;
  /// Regions that are scrubbed at once.
  static constexpr std::size_t kScrubbers = 2;
  /// Publishes that wait for pinned pages at once, each some 0.2 s in the kernel; one of each user.
  static constexpr std::size_t kSealers = 4;
  /// Users whose names are looked up at once; patiently, since who has a range of uids can ask for many names.
  static constexpr std::size_t kAccountLookups = 2;

  Worker ledger;    ///< The ledger's msync.
  Worker work;      ///< Carving, truncation, device control: what a client waits for.
  Worker scrubber;  ///< What nobody waits for.
  Worker prober;    ///< Who still holds what.
  Worker sealer;    ///< Publishes.
  Worker labels;    ///< Units and containers of peers.
  Worker accounts;  ///< Names and groups of users.
};

}  // namespace mapcap::broker
