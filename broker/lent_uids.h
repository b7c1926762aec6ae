// /etc/subuid, and the accounts that it names, count from the moment they change: whoever is lent a range while the
// broker runs (useradd does that) must not be 65,536 users until somebody thinks of a reload.
#pragma once

#include <chrono>
#include <functional>
#include <set>
#include <string>

#include "base/result.h"
#include "broker/wait/loop.h"
#include "broker/wait/task.h"
#include "broker/wait/worker.h"
#include "mapcap/fd.h"
#include "policy/subordinates.h"

namespace mapcap::broker {

/// Which files change. Made before what is in force is read, so that nothing falls between; one inotify instance.
class AccountChanges {
 public:
  /// subuid, passwd and group in `directory`, and where links lead from there. Errors: `exhausted`, `io`.
  static Result<AccountChanges> watch(const std::string& directory = "/etc");

  [[nodiscard]] BorrowedFd fd() const { return inotify_.borrow(); }
  /// Takes what the kernel has told so far. True when it is about one of the files.
  [[nodiscard]] bool take() const;

 private:
  Result<void> add(const std::string& directory);
  Fd inotify_;
  std::set<std::string, std::less<>> names_;
};

class LentUids {
 public:
  struct Parts {
    Loop& loop;
    Worker& accounts;  ///< Reads, for as long as a name service takes.
    std::function<void(const policy::Subordinates&)> take;
    std::function<policy::Subordinates()> read = policy::Subordinates::of_machine;  ///< On a thread.
  };
  LentUids(Parts parts, AccountChanges changes);
  LentUids(const LentUids&) = delete;
  LentUids& operator=(const LentUids&) = delete;

  /// From now on, for as long as the loop runs. A change is read when it has settled: useradd writes several files.
  void start() { spawn(run()); }
  static constexpr std::chrono::milliseconds kSettled{50};

 private:
  Task<void> run();

  Parts parts_;
  AccountChanges changes_;
  Loop::Watch watch_;
};

}  // namespace mapcap::broker
