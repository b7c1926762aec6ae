// Threads for slow work: scrubbing, truncation, msync, device control. The loop never blocks; it awaits.
//
// Work is for somebody: whoever the loop works for when it is submitted. Nobody's work waits for all that
// another has queued:
//
//     next      of those with work waiting, whoever has had least of the threads' time so far
//     at most   a quarter of the threads for one account (one thread at least), however many are idle: what
//               cannot be interrupted takes as long as its owner likes, and the others must not wait for it.
//               What is done for nobody, such as what a start resumes, is of many owners: it may have the rest, and all
//               where nobody waits
//     pieces    long work says now and then that others may go first (Worker::pause): while somebody waits
//     for a
//               thread it stands aside, and goes on when it is its owner's turn again
//
// Who comes back after a while does not get what he did not use: his time begins at that of whoever has
// least.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <condition_variable>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <type_traits>
#include <vector>

#include "broker/wait/loop.h"
#include "broker/wait/meter.h"

namespace mapcap::broker {

/// Signals are blocked in its threads. Work of one account begins in the order in which it was submitted.
class Worker {
 public:
  /// Whether somebody waits for the work: `patient` threads give up the priority that the process has.
  enum class Pace : std::uint8_t { prompt, patient };

  Worker(Loop& loop, std::size_t threads, Pace pace = Pace::prompt);
  /// Finishes what was submitted, then joins. Their continuations run only if the loop still does.
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  /// co_await worker.run(fn): runs fn() on a thread and resumes on the loop with its result (not void).
  /// A lambda whose captures need a destructor must be named and passed by its name: within a co_await
  /// expression g++ 12 destroys such captures twice (GCC bug 99576).
  template <typename Given>
  auto run(Given&& function) {
    return run_for(loop_.meter().account(), std::forward<Given>(function));
  }
  /// The same as work for `account`, whoever waits for it.
  template <typename Given>
  auto run_for(Meter::Account account, Given&& function) {
    using Function = std::decay_t<Given>;
    static_assert(std::is_lvalue_reference_v<Given> || std::is_trivially_destructible_v<Function>,
                  "name this lambda and pass it by its name: see above");
    using Value = std::invoke_result_t<Function>;
    static_assert(!std::is_void_v<Value>, "return a Result, so that failures are seen");
    struct Awaiter {
      Worker& worker;
      Function function;
      Meter::Account account;
      std::optional<Value> value;
      [[nodiscard]] bool await_ready() const noexcept { return false; }
      void await_suspend(std::coroutine_handle<> waiting) {
        // The awaiter lives in the suspended coroutine's frame, which stays until it is resumed.
        worker.submit(account, [this, waiter = Waiter(worker.loop_, waiting)] {
          value.emplace(function());
          worker.loop_.post(waiter);
        });
      }
      Value await_resume() { return std::move(*value); }
    };
    return Awaiter{*this, std::forward<Given>(function), account, std::nullopt};
  }

  /// Runs `work` on a thread, for whom the loop works now. On the loop's thread.
  void submit(std::function<void()> work) { submit(loop_.meter().account(), std::move(work)); }
  /// The same for somebody. Thread-safe.
  void submit(Meter::Account account, std::function<void()> work);

  /// Within work, wherever it may take long and holds no lock: lets others have the thread first, if they
  /// wait for one. Elsewhere without effect.
  static void pause();

 private:
  using Time = TimeSource::Time;
  struct Job;
  /// What one account has here.
  struct Share {
    std::deque<std::function<void()>> waiting;
    std::deque<Job*> aside;  ///< Work that paused, in the order in which it did.
    std::size_t begun = 0;   ///< Threads that have work of it, at it or aside.
    Time used{0};            ///< Of threads.
  };
  using Shares = std::map<Meter::Account, Share>;

  [[nodiscard]] Time now() const { return loop_.time().awake(); }
  void start_thread();
  void serve();
  void step_aside(Job& job);
  /// Who is next; the end when nobody may have a thread now.
  Shares::iterator next();
  /// Wakes his work that stood aside first.
  void let_go_on(Shares::iterator share);
  static void count_time(Job& job);

  Loop& loop_;
  const std::size_t at_once_;     ///< Threads at work.
  const std::size_t for_one_;     ///< Of those, for one account.
  const std::size_t for_nobody_;  ///< For the broker's own work.
  const Pace pace_;
  std::mutex mutex_;
  std::condition_variable wake_;
  Shares shares_;
  Time begin_{0};            ///< Where the time of an account begins that was idle.
  std::size_t running_ = 0;  ///< Threads at work.
  std::size_t aside_ = 0;    ///< Threads that stand aside.
  std::size_t left_ = 0;     ///< Work that has not ended.
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace mapcap::broker
