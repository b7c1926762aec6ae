// The ledger: the only truth across restarts.
//
// A verb asks for a change and awaits it; when the await returns success, the change is as durable as asked.
// Every change is atomic: after a crash at any store the ledger holds the state before or after it, never
// between.
#pragma once

#include <cstdio>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "broker/ledger/table/record.h"
#include "broker/wait/loop.h"
#include "broker/wait/task.h"
#include "broker/wait/worker.h"

namespace mapcap::broker::ledger {

/// What opening found.
struct Recovered {
  std::vector<RegionRecord> regions;
  std::vector<QuotaRecord> quotas;
  std::vector<EndpointRecord> endpoints;
  std::uint64_t damaged = 0;  ///< Slots whose checksum or fields were wrong; kept until forget_damaged().
  std::uint64_t stale = 0;    ///< Older versions and tombstones; freed.
};

class Ledger {
 public:
  virtual ~Ledger() = default;

  /// Opens or creates the ledger at `path`, takes its lock, maps it through libpmem2 and recovers.
  /// Errors: `busy` when another broker has it open, `invalid` for a file that is no ledger or of another
  /// version, `io` otherwise; each says what to do.
  static Result<std::unique_ptr<Ledger>> open(const std::string& path, broker::Loop& loop,
                                              broker::Worker& worker);

  /// Chosen at random when the ledger was made: what its regions' memory is named by, so that a broker with
  /// another ledger neither takes it for its own nor for nobody's.
  [[nodiscard]] virtual std::uint32_t identity() const = 0;

  /// Moves out what open found; once.
  virtual Recovered take_recovered() = 0;

  /// Never reused, not even after a crash.
  virtual RegionId next_id() = 0;

  /// Inserts the region, or replaces the record with the same id. On error nothing has changed; what the
  /// medium half wrote of a refused change is taken back with the next change that succeeds. Changes of one
  /// id take effect in the order in which they were asked for. Once an id has been written at power strength,
  /// all its later changes are. Errors: `invalid` for a record that does not fit the layout, `io` when the
  /// medium refuses (ENOSPC for a full table that cannot grow, EIO from msync); the ledger goes on.
  virtual broker::Task<Result<void>> put(RegionRecord record, Strength strength) = 0;
  /// Frees the record; never needs space. Freeing what is not there is fine. Errors: `io`.
  virtual broker::Task<Result<void>> erase(RegionId id, Strength strength) = 0;

  virtual broker::Task<Result<void>> put_quota(QuotaRecord record) = 0;
  virtual broker::Task<Result<void>> erase_quota(SubjectKind subject, std::uint32_t id, std::string pool) = 0;

  /// Inserts the endpoint whose number is new, from next_id(), or replaces what may change of the record with
  /// the same number. Always at power strength. Errors: as put().
  virtual broker::Task<Result<void>> put_endpoint(EndpointRecord record) = 0;
  virtual broker::Task<Result<void>> erase_endpoint(std::uint64_t number) = 0;

  /// Told when a change was refused by the medium, once, and with nothing when changes are taken again: those
  /// that need what was missing, so that a full disk is over when a new record found its room.
  virtual void on_trouble(std::function<void(const Failure*)> told) = 0;
  /// What on_trouble() told last.
  [[nodiscard]] virtual const std::optional<Failure>& trouble() const = 0;

  /// For an orderly end: waits for what runs in the background and makes everything durable, process strength
  /// too, so that after a reboot volatile regions are told as lost. Changes that are
  /// still under way, or follow, are as durable as they asked to be and no more.
  /// Errors: `io`.
  virtual broker::Task<Result<void>> close() = 0;

  /// How power-strength changes are made durable here: byte or cache_line (flush and fence), page (msync).
  [[nodiscard]] virtual Granularity granularity() const = 0;
};

/// The boot id of this boot. Errors: `io`.
Result<BootId> current_boot();

/// For `mapcapd --check-ledger`: reads only; one line for each finding, saying what opening would do about
/// it, then a summary, on `out`. Returns true when nothing is damaged. Errors: as Ledger::open(), and
/// `not_found`.
Result<bool> check(const std::string& path, std::FILE* out);

/// For `mapcapd --forget-damaged`: frees the slots that check() calls damaged, durably. Returns how many.
/// Errors: as Ledger::open(), and `not_found`.
Result<std::uint64_t> forget_damaged(const std::string& path);

}  // namespace mapcap::broker::ledger
