// Taking a region away, and giving its memory back.
//
//     live --revoke--> revoking --cut--> draining --last holder gone--> scrubbing --freed--> (gone)
//                         |                                                 ^
//                         +-- cut passes its deadline --> quarantined ------+  (tried until it succeeds)
//
// Memory that nobody has, as most of it is when it is revoked, takes one step instead: its record goes (unheld.cpp).
//
// Irrevocable memory is not cut: what stands for it is that nobody has it any more, for which a revoke waits
// or, where the pool's policy says so, at last ends those who do.
//
// Each arrow is recorded before what it stands for is undone-able, so a broker that dies anywhere repeats the
// step it was in: cut and free are restartable. The charge ends with the record, after the memory is really
// free.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>

#include "broker/books/directory.h"
#include "broker/ledger/ledger.h"
#include "broker/regions/notifier.h"
#include "broker/report/report.h"
#include "broker/wait/task.h"
#include "broker/wait/worker.h"
#include "mapcap/region.h"

namespace mapcap::broker {
class Custody;
}

namespace mapcap::broker {

/// How long holders may finish before the memory is taken. Not draining: not at all. `within` 0: without
/// limit.
struct Drain {
  bool wanted = false;
  std::chrono::nanoseconds within{0};
};

class Reclaim {
 public:
  struct Parts {
    Loop& loop;
    Worker& worker;    ///< Cuts, which a revoke waits for.
    Worker& scrubber;  ///< Frees, which may take as long as a terabyte takes.
    Worker& prober;    ///< Questions whose answer takes as long as the machine has locks; one thread.
    Directory& directory;
    Quotas& quotas;
    ledger::Ledger& ledger;
    Custody& custody;
    Notifier& notifier;
    Report& report;
    std::function<void(const Region&)> ended;  ///< Neither a ttl nor a connection need end it any more.
  };
  explicit Reclaim(Parts parts) : parts_(std::move(parts)) {}

  /// Returns once promise 5 holds; the memory is freed in the background when its last holder lets go. A
  /// second revoke of the same region joins the first, and ends its drain when it has no patience itself.
  /// Errors: `not_found`, `io` from the ledger (then nothing has changed), `timed_out` when the region was
  /// quarantined instead.
  Task<Result<Revoked>> revoke(RegionId id, Drain drain);

  /// The same, and its record is gone when it returns, whoever still has the memory: for when the broker and the
  /// keeper end too. Errors: of revoke; `timed_out` when the record does not go.
  Task<Result<void>> end(RegionId id);

  /// The same without anybody to answer: expiry, an abandoned create.
  void revoke_in_background(RegionId id);

  /// One of its grants is gone.
  void released(Region& region, std::uint32_t payer) {
    if (region.charge.payer() == payer) charge_holders(region);
  }

  /// After a restart: takes a region that was on its way further on it.
  void resume(RegionId id);

 private:
  Task<void> resume_cut(RegionId id);
  void charge_holders(Region& region);
  Task<Result<void>> mark(RegionId id, RegionState state);
  void tell_revoked(const Region& region);
  /// True when nobody had it, and it has ended: then nothing is left of it but what nobody waits for. False: nothing
  /// has changed. Errors: `io` from the ledger; then nothing has changed either.
  Task<Result<bool>> end_unheld(RegionId id);
  static bool nobody_has(const Region& region);
  Task<void> put_away(RegionId id);
  /// Takes grants off the books, some dozens at most.
  void release_grants(const Region& region);
  Task<void> drain_holders(RegionId id, Drain drain);
  Task<Result<void>> cut(RegionId id);
  Task<bool> zero_unwritable(RegionId id);
  Task<Result<void>> outlast_holders(RegionId id);
  Task<void> finish(RegionId id);
  Task<void> wait_until_unheld(RegionId id);
  Task<void> let_go_of_grants(RegionId id);
  Task<Result<bool>> held(RegionId id);
  [[nodiscard]] std::chrono::nanoseconds between_probes() const;
  Task<bool> free(RegionId id);
  /// Frees it, however often that has to be tried.
  Task<void> give_back(RegionId id);
  Task<Result<Revoked>> join(RegionId id, Drain drain);
  Task<Result<Revoked>> forget_lost(RegionId id);

  Parts parts_;
  std::size_t probing_ = 0;  ///< Regions that may have to be asked about.
};

}  // namespace mapcap::broker
