// The keeper, seen from the broker: the process that answers FUSE for the clones, holds a second descriptor
// of every volatile region, and knows nothing else. It outlives a broker that dies; the next broker adopts
// it.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "broker/confine/confiner.h"
#include "broker/wait/loop.h"
#include "policy/subordinates.h"

namespace mapcap::broker::keeper {

class Forge;

struct KeeperOptions {
  std::string state_directory;                     ///< The adoption socket lives here, root only.
  std::chrono::milliseconds issue_deadline{2000};  ///< An open that takes longer fails with `timed_out`.
  /// A keeper that stays silent that long is killed and replaced.
  std::chrono::milliseconds kill_after{10000};
  /// At adoption: one that stays silent that long is woken, since somebody may have stopped it.
  std::chrono::milliseconds wake_after{5000};
  /// A keeper with neither a broker nor anything to keep ends after this. Absent: it ends with its broker,
  /// and what it keeps with it.
  std::optional<std::chrono::seconds> idle{60};
  policy::Subordinates
      accounts{};  ///< Who stands behind a uid: his requests to the keeper are counted as one's.
  std::shared_ptr<Forge> forge{};  ///< What makes keepers and registers backings; null: this process itself.
};

/// Memory that the keeper carried over an earlier broker's death.
struct HeldMemory {
  RegionId region;
  Fd fd;
};

/// How the keeper is, for whoever looks after the machine.
struct KeeperHealth {
  int pid = 0;             ///< 0 while there is none.
  bool serving = false;    ///< False while it is being replaced.
  bool adopted = false;    ///< An earlier broker started it.
  std::uint64_t held = 0;  ///< Regions whose memory it has.
  std::uint64_t unheld =
      0;  ///< Regions that it is to hold and does not have (yet): they die with the broker.
  std::uint64_t replaced = 0;     ///< How often one was replaced since this broker started.
  std::string last_end;           ///< How the last one ended; empty: none did.
  std::uint64_t blanks = 0;       ///< Made ahead and ready: memory without size, which is no region's.
  std::uint64_t blanks_used = 0;  ///< Creates that took one, since this broker started.
  std::uint64_t opens = 0;        ///< Made ahead of opens and ready: grants of regions, nobody's.
  std::uint64_t opens_used = 0;   ///< Opens that took one, since this broker started.
  std::uint64_t sockets = 0;      ///< Listening sockets of endpoints that it has.
};

class Keeper {
 public:
  virtual ~Keeper() = default;

  /// Adopts the surviving keeper of this state directory, or forks a new one. Call before any thread exists,
  /// with the state directory locked against other brokers, and writable by nobody else. Where the kernel has
  /// no FUSE passthrough the keeper still holds memory: clone_unavailable() says why. One that can make no
  /// clones any more is replaced where the machine has them, after the next one has all of its memory. A
  /// surviving keeper that stays silent is woken after wake_after (SIGCONT), after kill_after killed, and its
  /// memory is lost. Errors: `busy` when a broker, even a stopped one, is connected to it; `unsupported` when
  /// it is of another version; `io`.
  static Result<std::unique_ptr<Keeper>> adopt_or_start(const KeeperOptions& options);

  /// The state directory is seen by another way from now on (sandbox/room.h): the descriptor of it is opened anew. Before
  /// any thread exists. Errors: `io`.
  virtual Result<void> reopen_directory() { return ok(); }

  /// Starts watching: release events and the keeper's death. Then the confiner may issue.
  virtual void attach(Loop& loop) = 0;

  [[nodiscard]] virtual bool adopted() const = 0;
  /// False when grants of earlier brokers may be out of which nobody here will be told.
  [[nodiscard]] virtual bool knows_earlier_grants() const = 0;
  [[nodiscard]] virtual int pid() const = 0;
  [[nodiscard]] virtual KeeperHealth health() const = 0;
  virtual std::vector<HeldMemory> take_held() = 0;
  virtual std::vector<confine::LiveGrant> take_live_grants() = 0;

  /// The keeper gets a second descriptor of a volatile region, and so does each that replaces it, until
  /// drop(): `fd` stays open until then. When it returns, the memory survives kill -9 of the broker. Waits
  /// for room in the keeper's queue, or for the next keeper, as long as an open may take. Errors, all final,
  /// after which nothing is held: `unavailable` when no keeper took it in time, `exhausted`.
  virtual Task<Result<void>> hold(RegionId region, BorrowedFd fd) = 0;
  /// The same without waiting: the region counts as unheld until a keeper has it. For regions that exist.
  virtual void guard(RegionId region, BorrowedFd fd) = 0;
  /// The same for the listening socket of an endpoint, by a number that no region has.
  virtual void guard_socket(RegionId number, BorrowedFd socket) = 0;
  /// The keeper closes its descriptor.
  virtual void drop(RegionId region) = 0;
  /// Up to `most` of the regions that it is to hold and does not have (yet).
  [[nodiscard]] virtual std::vector<RegionId> unheld(std::size_t most) const = 0;
  /// Waits until the keeper has the memory of all regions that it is to hold, and was told all that there is to tell, for
  /// `patience` at most. False when it has not.
  virtual Task<bool> settle(std::chrono::nanoseconds patience) = 0;
  /// What an orderly end needs beside that: the backings of files that the keeper does not hold itself are let
  /// go of, or nobody could unmount their filesystem as long as it guards others' memory. Grants that are out
  /// keep theirs.
  virtual Task<bool> prepare_to_leave(std::chrono::nanoseconds patience) = 0;

  /// Who stands behind a uid, for keepers that start from now on: one that serves keeps what it was told.
  virtual void set_accounts(policy::Subordinates /*accounts*/) {}

  /// KeeperOptions::issue_deadline of opens that begin from now on.
  virtual void set_issue_deadline(std::chrono::milliseconds /*deadline*/) {}

  /// Called on the loop when the last descriptor and the last mapping of a grant are gone (FUSE FORGET); and `told` when
  /// that was said of all that end together.
  virtual void on_release(std::function<void(confine::GrantId)> released,
                          std::function<void()> told = nullptr) = 0;
  /// Called on the loop when it is known how a keeper ended: "was killed after 2s of silence".
  virtual void on_ended(std::function<void(const std::string& how)> ended) = 0;
  /// Called on the loop after a keeper died and a new one serves: grants issued before are no longer tracked.
  virtual void on_replaced(std::function<void()> replaced) = 0;

  /// The clone confiner that works through this keeper; never null. Its attach fails with `unsupported` where
  /// passthrough is missing.
  virtual confine::Confiner& clone() = 0;
  /// Empty when clones can be issued; else one sentence: what is missing (kernel version,
  /// CONFIG_FUSE_PASSTHROUGH, /dev/fuse, CAP_SYS_ADMIN) and what to do.
  [[nodiscard]] virtual std::string clone_unavailable() const = 0;

  /// The broker ends in an orderly way: a keeper that has nothing to keep ends too, any other waits for the
  /// next broker. True when it stays.
  virtual bool leave() = 0;
  /// The end of the whole service: the keeper lets go of everything and exits.
  virtual void shut_down() = 0;
};

}  // namespace mapcap::broker::keeper
