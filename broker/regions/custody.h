// Who else holds the memory of volatile regions: the keeper, over the broker's own death; and the service
// manager's fd store, over a restart of the whole service (sd_pid_notify_with_fds(3), FDSTORE=1; systemd >=
// 219).
#pragma once

#include <vector>

#include "broker/keeper/keeper.h"
#include "broker/wait/task.h"
#include "broker/wait/worker.h"

namespace mapcap::broker {

class Custody {
 public:
  Custody(keeper::Keeper& keeper, Worker& worker);

  /// When it returns, the memory outlives the broker; `fd` stays open until drop(). The fd store is used
  /// where a service manager listens ($NOTIFY_SOCKET); its refusal is no error, since it sends none. Errors:
  /// of Keeper::hold.
  Task<Result<void>> hold(RegionId region, BorrowedFd fd);
  void drop(RegionId region);

  /// For a region that an earlier broker left: the keeper gets it, unless it has it. The fd store has it
  /// already.
  void guard(RegionId region, BorrowedFd fd) { keeper_.guard(region, fd); }

  /// What the service manager passed at start ($LISTEN_FDS), by the names that hold() gave; once, before
  /// threads. Descriptors under other names are closed.
  static std::vector<keeper::HeldMemory> take_stored();

 private:
  keeper::Keeper& keeper_;
  Worker& worker_;
  bool has_store_;
};

}  // namespace mapcap::broker
