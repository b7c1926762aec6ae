#include "broker/report/report.h"

#include <systemd/sd-daemon.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>

#include "broker/report/log_line.h"

namespace mapcap::broker {

namespace {

/// Whoever reads the log may be stopped, and its pipe full: a line is lost then, and counted, rather than
/// that everybody waits.
void line(const char* priority, const std::string& text) {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nobody sets it.
  static const bool journal = std::getenv("JOURNAL_STREAM") != nullptr;
  static std::uint64_t lost = 0;  // The loop's.
  const std::string before = std::string(journal ? priority : "") + "mapcapd: ";
  if (lost > 0) {
    if (!write_to_log(before + std::to_string(lost) + " lines were not logged: nobody read them\n")) {
      ++lost;
      return;
    }
    lost = 0;
  }
  std::string bytes = (before + text).substr(0, kLongestLogLine - 1) + "\n";
  if (!write_to_log(bytes)) ++lost;
}

}  // namespace

bool LogReport::within_rate() {
  const auto now = std::chrono::floor<std::chrono::seconds>(now_());
  if (now != window_) {
    if (suppressed_ > 0)
      line(SD_WARNING, std::to_string(suppressed_) + " more refusals and failures were not logged");
    window_ = now;
    in_window_ = suppressed_ = 0;
  }
  if (++in_window_ <= kPerSecond) return true;
  ++suppressed_;
  return false;
}

void LogReport::started(std::string_view socket, std::string_view state, bool adopted_keeper) {
  line(SD_INFO, "serving on " + std::string(socket) + ", state in " + std::string(state) +
                    (adopted_keeper ? ", with the keeper of the broker before" : ", with a new keeper"));
}

void LogReport::recovered(std::uint64_t live, std::uint64_t lost, std::uint64_t reclaiming,
                          std::uint64_t damaged) {
  line(SD_INFO, "recovered " + std::to_string(live) + " regions, " + std::to_string(lost) + " lost, " +
                    std::to_string(reclaiming) + " being reclaimed, " + std::to_string(damaged) +
                    " damaged records" +
                    (damaged > 0 ? " (mapcapd --check-ledger lists them, --forget-damaged frees them)" : ""));
}

void LogReport::stopping(std::string_view why) {
  line(SD_INFO, "stopping: " + std::string(why));
}

void LogReport::memory_stays(std::uint64_t regions, int keeper) {
  line(SD_INFO, "the memory of " + std::to_string(regions) + (regions == 1 ? " region" : " regions") +
                    " stays with the keeper (process " + std::to_string(keeper) + ") for the next mapcapd");
}

void LogReport::memory_unguarded(std::uint64_t regions) {
  line(SD_WARNING, "no keeper took over the memory of " + std::to_string(regions) +
                       (regions == 1 ? " region" : " regions") +
                       " in time: it is lost unless clients or the service manager hold it");
}

void LogReport::regions_lost(std::uint64_t regions, std::uint64_t users, std::string_view example) {
  line(SD_WARNING, std::to_string(regions) + (regions == 1 ? " region of " : " regions of ") +
                       std::to_string(users) + (users == 1 ? " user" : " users") +
                       (regions == 1 ? " is" : " are") + " lost, since nobody holds the memory any more (" +
                       std::string(example) + (regions == 1 ? "" : ", ...") +
                       "); `mapcap revoke GLOB` takes them off the list");
}

void LogReport::close_failed(const Failure& error) {
  line(SD_WARNING, "closing the ledger failed: " + error.sentence);
}

void LogReport::policy_reloaded(std::string_view path) {
  line(SD_INFO, "policy reloaded from " + std::string(path));
}

void LogReport::policy_refused(const Failure& error) {
  line(SD_ERR, "policy not reloaded, the old one stays in force: " + error.sentence);
}

void LogReport::charges_moved(std::uint64_t charges) {
  line(SD_NOTICE, "who is lent which uids has changed (/etc/subuid): " + std::to_string(charges) +
                      (charges == 1 ? " charge counts" : " charges count") +
                      " for another user from now on, the one behind its uid");
}

void LogReport::lent_uids_unwatched(const Failure& why) {
  line(SD_WARNING, "changes of /etc/subuid count from the next reload only: " + why.sentence);
}

void LogReport::keeper_ended(std::string_view how) {
  line(SD_WARNING, "the keeper " + std::string(how));
}

void LogReport::keeper_replaced(int pid) {
  line(SD_NOTICE, "a new keeper serves as process " + std::to_string(pid));
}

void LogReport::mint_replaced() {
  line(SD_WARNING, "the mint ended; its heir has its place");
}

void LogReport::region_lost(std::string_view name, const Failure& why) {
  line(SD_WARNING, "region " + std::string(name) + " is lost: " + why.sentence);
}

void LogReport::region_found(std::string_view name) {
  line(SD_NOTICE, "region " + std::string(name) + " was lost and is back: its memory is there again");
}

void LogReport::client_misbehaved(std::uint32_t uid, std::int32_t pid, const Failure& error) {
  if (!within_rate()) return;
  line(SD_WARNING, "disconnected process " + std::to_string(pid) + " of user " + std::to_string(uid) + ": " +
                       error.sentence);
}

void LogReport::connection_refused(std::uint32_t uid, const Failure& error) {
  const Repeats::Time now = now_();
  tell_repeats(now);
  const std::string what = "refused a connection of user " + std::to_string(uid) + ": " + error.sentence;
  if (!refused_.first(what, now) || !within_rate()) return;
  line(SD_WARNING, what);
  tell_repeats(now);  // Later, what comes again from now on.
}

void LogReport::tell_repeats(Repeats::Time now) {
  for (const Repeats::Again& one : refused_.over(now))
    line(SD_WARNING, std::to_string(one.times) + " times more: " + one.key);
  if (later_ && refused_.next() > Repeats::Time::zero())
    later_(refused_.next() - now, [this] { tell_repeats(now_()); });
}

void LogReport::quarantined(std::string_view name, const Failure& error) {
  line(SD_WARNING, "region " + std::string(name) + " is quarantined: " + error.sentence);
}

/// What is tried again and again is told at the first, second, fourth, eighth time.
void LogReport::reclaim_failed(std::string_view name, const Failure& error) {
  if (failures_.size() >= kFailuresKnown) failures_.clear();
  const std::uint64_t times = ++failures_[std::string(name) + ": " + error.sentence];
  if ((times & (times - 1)) != 0 || !within_rate()) return;
  line(SD_ERR, "reclaiming region " + std::string(name) + " failed, will try again: " + error.sentence +
                   (times > 1 ? " (" + std::to_string(times) + " times by now)" : ""));
}

void LogReport::leftovers_stay(std::string_view pool, const Failure& error) {
  line(SD_WARNING, "leftovers of pool " + std::string(pool) + " stay: " + error.sentence);
}

void LogReport::ledger_refuses(const Failure& error) {
  line(SD_ERR, "changes are refused until this is mended: " + error.sentence);
}

void LogReport::ledger_recovered() {
  line(SD_NOTICE, "the ledger takes changes again");
}

void LogReport::store_full(std::uint64_t stored, std::optional<std::uint64_t> most) {
  const std::string limit = most ? "FileDescriptorStoreMax=" + std::to_string(*most)
                                 : "the kernel's limit on one environment variable";
  line(SD_WARNING,
       "the service manager's store is full with " + std::to_string(stored) + " regions (" + limit +
           "): those made from now on outlive a restart, a stop and the death of the broker or of the "
           "keeper, but not of both at once");
}

void LogReport::endpoint_unserved(std::string_view id, const Failure& error) {
  line(SD_ERR, (id.empty() ? std::string("what is left of endpoints") : "endpoint " + std::string(id)) +
                   ": " + error.sentence);
}

void LogReport::holders_ended(std::string_view name, std::uint64_t processes) {
  line(SD_WARNING, "revoking region " + std::string(name) + " ended " + std::to_string(processes) +
                       (processes == 1 ? " process that had it" : " processes that had it"));
}

}  // namespace mapcap::broker
