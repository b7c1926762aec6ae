// Who else holds the memory of volatile regions: the keeper, over the broker's own death; and the service
// manager's fd store, over a restart of the whole service (sd_pid_notify_with_fds(3), FDSTORE=1; systemd >=
// 219).
#pragma once

#include <vector>

#include "broker/confine/keeper.h"
#include "broker/task.h"
#include "broker/worker.h"

namespace mapcap::broker {

class Custody {
 public:
  Custody(confine::Keeper& keeper, Loop& loop, Worker& worker);

  /// When it returns, the memory outlives the broker. The fd store is used where a service manager listens
  /// ($NOTIFY_SOCKET); its refusal is no error, since it sends none. Errors: `unavailable` when no keeper
  /// answers within 2 s.
  Task<schema::Result<void>> hold(schema::RegionId region, schema::BorrowedFd fd);
  void drop(schema::RegionId region);

  /// A new keeper holds nothing: gives it what it must hold. The fd store has it already.
  schema::Result<void> hold_again(schema::RegionId region, schema::BorrowedFd fd) {
    return keeper_.hold(region, fd);
  }

  /// What the service manager passed at start ($LISTEN_FDS), by the names that hold() gave; once, before
  /// threads. Descriptors under other names are closed.
  static std::vector<confine::HeldMemory> take_stored();

 private:
  confine::Keeper& keeper_;
  Loop& loop_;
  Worker& worker_;
  bool has_store_;
};

}  // namespace mapcap::broker
