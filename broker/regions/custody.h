// Who else holds the memory of volatile regions: the keeper, over the broker's own death; and the service
// manager's fd store (fd_store.h), over the death of both.
#pragma once

#include <cstddef>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "broker/keeper/keeper.h"
#include "broker/regions/fd_store.h"
#include "broker/wait/task.h"
#include "broker/wait/worker.h"

namespace mapcap::broker {

class Custody {
 public:
  Custody(keeper::Keeper& keeper, Worker& worker);

  /// When it returns, the memory outlives the broker; `fd` stays open until drop(). A fd store that has no
  /// place for it is no error. Errors: of Keeper::hold.
  Task<Result<void>> hold(RegionId region, BorrowedFd fd);
  void drop(RegionId region);

  /// For a region that an earlier broker left: keeper and fd store get it, unless they have it. A stop of the
  /// service empties the store, and what was made while it was full may have a place by now.
  void guard(RegionId region, BorrowedFd fd);
  /// The same for the listening socket of an endpoint, by a number that no region has; also of a new one.
  void guard_socket(RegionId number, BorrowedFd socket);

  /// What was dropped has left the service manager's store, too.
  Task<void> flushed();

  /// Null where no service manager keeps descriptors.
  [[nodiscard]] const FdStore* store() const { return store_; }

  /// Where a service manager listens: what its store has place for goes there too. Before anything is held;
  /// the store outlives this.
  void use(FdStore& store) { store_ = &store; }

 private:
  void store_later(RegionId region, BorrowedFd fd);
  Task<bool> store(std::string name, BorrowedFd fd);
  Task<void> store_guarded();
  void remove(std::string name);

  keeper::Keeper& keeper_;
  Worker& worker_;
  FdStore* store_ = nullptr;
  /// What guard() was given and the store has not yet: one after the other, since a start may have thousands.
  std::deque<std::pair<RegionId, BorrowedFd>> guarded_;
  bool storing_ = false;
  /// Names that are on their way out.
  std::shared_ptr<std::size_t> removing_ = std::make_shared<std::size_t>(0);
};

/// What the service manager passed at start ($LISTEN_FDS), by the names that the store gave; once, before
/// threads. Descriptors under other names are closed.
std::vector<keeper::HeldMemory> take_stored(FdStore& store);

}  // namespace mapcap::broker
