// What an operator wants to know, as named events. Logic holds no log lines: it names what happened.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "base/result.h"
#include "base/units.h"
#include "broker/report/repeats.h"

namespace mapcap::broker {

class Report {
 public:
  virtual ~Report() = default;
  virtual void started(std::string_view socket, std::string_view state, bool adopted_keeper) = 0;
  virtual void recovered(std::uint64_t live, std::uint64_t lost, std::uint64_t reclaiming,
                         std::uint64_t damaged) = 0;
  virtual void stopping(std::string_view why) = 0;
  /// At an orderly end the ledger could not be made durable as a whole; acknowledged changes are all the
  /// same.
  /// The next broker will find it: with the keeper, which process `keeper` is.
  virtual void memory_stays(std::uint64_t regions, int keeper) = 0;
  /// The broker ends although no keeper took these over in time.
  virtual void memory_unguarded(std::uint64_t regions) = 0;
  /// At start, of volatile regions whose memory nobody holds any more; `example`: the name of one.
  virtual void regions_lost(std::uint64_t regions, std::uint64_t users, std::string_view example) = 0;
  virtual void close_failed(const Failure& error) = 0;
  virtual void policy_reloaded(std::string_view path) = 0;
  virtual void policy_refused(const Failure& error) = 0;
  /// /etc/subuid lends uids to others than before: so many charges are another user's by it.
  virtual void charges_moved(std::uint64_t charges) = 0;
  virtual void lent_uids_unwatched(const Failure& why) = 0;
  /// how: "was killed after 2s of silence"
  virtual void keeper_ended(std::string_view how) = 0;
  virtual void keeper_replaced(int pid) = 0;
  /// The mint ended; its heir has its place, and an heir of its own.
  virtual void mint_replaced() = 0;
  virtual void region_lost(std::string_view name, const Failure& why) = 0;
  /// A region that was lost has its memory again.
  virtual void region_found(std::string_view name) = 0;
  /// A client broke the protocol and was disconnected.
  virtual void client_misbehaved(std::uint32_t uid, std::int32_t pid, const Failure& error) = 0;
  virtual void connection_refused(std::uint32_t uid, const Failure& error) = 0;
  /// Memory that cannot be freed yet; the broker goes on trying.
  virtual void quarantined(std::string_view name, const Failure& error) = 0;
  virtual void reclaim_failed(std::string_view name, const Failure& error) = 0;
  /// Memory of a pool that is in nobody's record and stays.
  virtual void leftovers_stay(std::string_view pool, const Failure& error) = 0;
  /// The ledger's medium refuses changes: once; and that it takes them again.
  virtual void ledger_refuses(const Failure& error) = 0;
  virtual void ledger_recovered() = 0;
  /// The service manager's fd store took `stored` descriptors and no more; `most`: what it says that it
  /// takes.
  virtual void store_full(std::uint64_t stored, std::optional<std::uint64_t> most) = 0;
  /// An endpoint's socket could not be made or removed; without id: those of endpoints that are gone.
  virtual void endpoint_unserved(std::string_view id, const Failure& error) = 0;
  /// A revoke ended processes, as the pool's policy says.
  virtual void holders_ended(std::string_view name, std::uint64_t processes) = 0;
};

/// One line an event on stderr, as journald wants it (sd-daemon(3) priority prefixes).
class LogReport : public Report {
 public:
  void started(std::string_view socket, std::string_view state, bool adopted_keeper) override;
  void recovered(std::uint64_t live, std::uint64_t lost, std::uint64_t reclaiming,
                 std::uint64_t damaged) override;
  void stopping(std::string_view why) override;
  void memory_stays(std::uint64_t regions, int keeper) override;
  void memory_unguarded(std::uint64_t regions) override;
  void regions_lost(std::uint64_t regions, std::uint64_t users, std::string_view example) override;
  void close_failed(const Failure& error) override;
  void policy_reloaded(std::string_view path) override;
  void policy_refused(const Failure& error) override;
  void charges_moved(std::uint64_t charges) override;
  void lent_uids_unwatched(const Failure& why) override;
  void keeper_ended(std::string_view how) override;
  void keeper_replaced(int pid) override;
  void mint_replaced() override;
  void region_lost(std::string_view name, const Failure& why) override;
  void region_found(std::string_view name) override;
  void client_misbehaved(std::uint32_t uid, std::int32_t pid, const Failure& error) override;
  void connection_refused(std::uint32_t uid, const Failure& error) override;
  void quarantined(std::string_view name, const Failure& error) override;
  void reclaim_failed(std::string_view name, const Failure& error) override;
  void leftovers_stay(std::string_view pool, const Failure& error) override;
  void ledger_refuses(const Failure& error) override;
  void ledger_recovered() override;
  void store_full(std::uint64_t stored, std::optional<std::uint64_t> most) override;
  void endpoint_unserved(std::string_view id, const Failure& error) override;
  void holders_ended(std::string_view name, std::uint64_t processes) override;

  /// The time, and what calls `work` after some of it, instead of what it was asked to call before. Without
  /// them it goes by the machine's, and counts of what was repeated are told with the next refusal.
  using Now = std::function<Repeats::Time()>;
  using Later = std::function<void(std::chrono::nanoseconds, std::function<void()> work)>;
  void use_time(Now now, Later later) {
    now_ = std::move(now);
    later_ = std::move(later);
  }

 private:
  void tell_repeats(Repeats::Time now);
  Repeats refused_;
  Now now_ = [] { return std::chrono::steady_clock::now().time_since_epoch(); };
  Later later_;

  /// A flood of refusals must not become a flood of log lines: at most kPerSecond of those, then a count.
  bool within_rate();
  static constexpr std::uint64_t kPerSecond = 10;
  std::chrono::seconds window_{-1};
  std::uint64_t in_window_ = 0;
  std::uint64_t suppressed_ = 0;
  /// How often the same was told of the same region.
  std::unordered_map<std::string, std::uint64_t> failures_;
  static constexpr std::size_t kFailuresKnown = 1024;
};

}  // namespace mapcap::broker
