// The thread that opens clones, and the wait for it.
//
// An open through FUSE takes as long as the keeper does, so the loop never makes one itself: it awaits the
// issuer with a deadline. When the deadline passes the caller gets `timed_out`; the open goes on, and what it
// brings is closed. The thread survives keepers: an open that hangs on a dead one fails as soon as the broker
// has closed its descriptor of that connection.
#pragma once

#include <atomic>
#include <chrono>
#include <coroutine>
#include <functional>
#include <memory>
#include <optional>
#include <thread>

#include "base/result.h"
#include "broker/confine/confiner.h"
#include "broker/keeper/issuing_page.h"
#include "broker/wait/loop.h"
#include "mapcap/fd.h"

namespace mapcap::broker::keeper {

struct Device;

/// Through what one keeper's opens go. Shared with jobs, so that it outlives the keeper's replacement.
struct IssuePath {
  IssuePath(Fd root_fd, IssuingPage issuing_page) : root(std::move(root_fd)), page(std::move(issuing_page)) {}
  Fd root;                           ///< Only the issuer's thread uses it once the path is in use.
  IssuingPage page;                  ///< Written by the issuer's thread only.
  std::shared_ptr<Device> device{};  ///< Of the same connection.
  bool by_name = false;              ///< The keeper knows nodes by their names.
};

/// On the issuing thread: opens the node of a read-only grant by a name, which it keeps until take_name(): before that
/// nobody may be given it, since the kernel would not tell of its end. Where no node has a name, as open_clone.
Result<Fd> open_with_name(IssuePath& path, const Opening& opening);
/// Whether or not it could be opened. Costs the next open a round trip more, so those that are made together lose theirs
/// together. Errors: `unavailable`, `io`: then it is not to be given to anybody.
Result<void> take_name(IssuePath& path, const Opening& opening);

/// On the issuing thread: a fresh open. One node for each, so that they share neither offset nor locks, and the kernel
/// tells when each of them is forgotten. Errors: as Issuer::open.
Result<Fd> open_clone(IssuePath& path, const Opening& opening);

class Issuer {
 public:
  /// Starts the thread. `loop` outlives the issuer.
  Issuer(Loop& loop, std::chrono::nanoseconds deadline);
  /// Every wait that is left ends with `unavailable`, from the loop. A thread that hangs in an open is left
  /// alone.
  ~Issuer();
  Issuer(const Issuer&) = delete;
  Issuer& operator=(const Issuer&) = delete;

  /// Of opens that begin from now on. Loop only.
  void set_deadline(std::chrono::nanoseconds deadline) { deadline_ = deadline; }

  /// Replaces path->root by an O_PATH descriptor of the root, which dissolves the mount; then calls `done` on
  /// the loop with a copy for the keeper.
  void open_root(std::shared_ptr<IssuePath> path, std::function<void(Result<Fd>)> done);

  /// On the thread, before whatever is asked for from now on.
  void run(std::function<void()> work);

  /// Work that nobody waits for: its steps are made one by one on the thread, while nothing else is to be opened.
  struct Ahead {
    std::function<bool()> step;  ///< False: that was the last.
    std::function<void()> done;  ///< On the loop, afterwards; not when the Issuer is gone.
  };
  void make(Ahead ahead);

  struct Job {
    std::shared_ptr<IssuePath> path;
    Opening opening;
    std::atomic<bool> abandoned{false};
    // Loop only:
    std::optional<Result<Fd>> result;
    std::optional<Waiter> waiting;
    Loop::Timer deadline;
  };

  /// co_await: an open descriptor. Errors: `timed_out`, `unavailable` when the keeper ended, `exhausted`,
  /// `io`: also for whatever keeps the kernel from opening the file behind a clone, of which it says EIO.
  auto open(std::shared_ptr<IssuePath> path, Opening opening) {
    struct Awaiter {
      Issuer& issuer;
      std::shared_ptr<Job> job;
      [[nodiscard]] bool await_ready() const noexcept { return false; }
      void await_suspend(std::coroutine_handle<> waiting) {
        job->waiting.emplace(issuer.loop_, waiting);
        issuer.start(job);
      }
      Result<Fd> await_resume() { return std::move(*job->result); }
    };
    auto job = std::make_shared<Job>();
    job->path = std::move(path);
    job->opening = std::move(opening);
    return Awaiter{*this, std::move(job)};
  }

 private:
  struct Waits;  ///< Of the loop: who waits.
  struct Queue;  ///< Between loop and thread.

  void start(const std::shared_ptr<Job>& job);
  static void finish(const std::shared_ptr<Waits>& waits, const std::shared_ptr<Job>& job, Result<Fd> result);

  Loop& loop_;
  std::chrono::nanoseconds deadline_;
  std::shared_ptr<Waits> waits_;
  std::shared_ptr<Queue> queue_;
  std::thread thread_;
};

}  // namespace mapcap::broker::keeper
