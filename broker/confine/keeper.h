// The keeper, seen from the broker: the process that answers FUSE for the clones, holds a second descriptor
// of every volatile region, and knows nothing else. It outlives a broker that dies; the next broker adopts
// it.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "broker/confine/confiner.h"
#include "broker/loop.h"
#include "schema/result.h"

namespace mapcap::broker::confine {

struct KeeperOptions {
  std::string state_directory;                     ///< The adoption socket lives here, root only.
  std::chrono::milliseconds issue_deadline{2000};  ///< An open that takes longer fails with `timed_out`.
  std::chrono::milliseconds kill_after{
      10000};                     ///< A keeper that stays silent that long is killed and replaced.
  std::chrono::seconds idle{60};  ///< A keeper with neither a broker nor anything to keep ends after this.
};

/// Memory that the keeper carried over an earlier broker's death.
struct HeldMemory {
  schema::RegionId region;
  schema::UniqueFd fd;
};

class Keeper {
 public:
  virtual ~Keeper() = default;

  /// Adopts the surviving keeper of this state directory, or forks a new one. Call before any thread exists,
  /// with the state directory locked against other brokers, and writable by nobody else. Where the kernel has
  /// no FUSE passthrough the keeper still holds memory: clone_unavailable() says why. A surviving keeper that
  /// stays silent for kill_after is woken (SIGCONT), then killed, and its memory is lost. Errors: `busy` when
  /// a broker, even a stopped one, is connected to it; `unsupported` when it is of another version; `io`.
  static schema::Result<std::unique_ptr<Keeper>> adopt_or_start(const KeeperOptions& options);

  /// Starts watching: release events and the keeper's death. Then the confiner may issue.
  virtual void attach(Loop& loop) = 0;

  [[nodiscard]] virtual bool adopted() const = 0;
  [[nodiscard]] virtual int pid() const = 0;
  virtual std::vector<HeldMemory> take_held() = 0;
  virtual std::vector<LiveGrant> take_live_grants() = 0;

  /// Puts a second descriptor of a volatile region into the keeper. When it returns, the memory survives kill
  /// -9 of the broker. Errors: `unavailable` (the keeper is stopped and its queue is full, or being
  /// replaced).
  virtual schema::Result<void> hold(schema::RegionId region, schema::BorrowedFd fd) = 0;
  /// The keeper closes its descriptor.
  virtual void drop(schema::RegionId region) = 0;

  /// Called on the loop when the last descriptor and the last mapping of a grant are gone (FUSE FORGET).
  virtual void on_release(std::function<void(GrantId)> released) = 0;
  /// Called on the loop after a keeper died and a new one serves: grants issued before are no longer tracked.
  /// The new keeper holds nothing yet: whoever owns regions calls hold() and Confiner::attach() again.
  virtual void on_replaced(std::function<void()> replaced) = 0;

  /// The clone confiner that works through this keeper; never null. Its attach fails with `unsupported` where
  /// passthrough is missing.
  virtual Confiner& clone() = 0;
  /// Empty when clones can be issued; else one sentence: what is missing (kernel version,
  /// CONFIG_FUSE_PASSTHROUGH, /dev/fuse, CAP_SYS_ADMIN) and what to do.
  [[nodiscard]] virtual std::string clone_unavailable() const = 0;

  /// An orderly end of the whole service: the keeper lets go of everything and exits.
  virtual void shut_down() = 0;
};

/// What `mapcap doctor` asks, without starting anything: empty, or why this machine cannot make clones.
std::string probe_clone();

}  // namespace mapcap::broker::confine
