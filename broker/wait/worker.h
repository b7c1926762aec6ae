// Threads for slow work: scrubbing, truncation, msync, device control. The loop never blocks; it awaits.
#pragma once

#include <condition_variable>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <type_traits>
#include <vector>

#include "broker/wait/loop.h"

namespace mapcap::broker {

/// A fixed set of threads with one queue, first in, first out. Signals are blocked in them.
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
    using Function = std::decay_t<Given>;
    static_assert(std::is_lvalue_reference_v<Given> || std::is_trivially_destructible_v<Function>,
                  "name this lambda and pass it by its name: see above");
    using Value = std::invoke_result_t<Function>;
    static_assert(!std::is_void_v<Value>, "return a Result, so that failures are seen");
    struct Awaiter {
      Worker& worker;
      Function function;
      std::optional<Value> value;
      [[nodiscard]] bool await_ready() const noexcept { return false; }
      void await_suspend(std::coroutine_handle<> waiting) {
        // The awaiter lives in the suspended coroutine's frame, which stays until it is resumed.
        worker.submit([this, waiter = Waiter(worker.loop_, waiting)] {
          value.emplace(function());
          worker.loop_.post(waiter);
        });
      }
      Value await_resume() { return std::move(*value); }
    };
    return Awaiter{*this, std::forward<Given>(function), std::nullopt};
  }

  /// Runs `work` on a thread. Thread-safe.
  void submit(std::function<void()> work);

 private:
  void serve(Pace pace);
  Loop& loop_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> queue_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace mapcap::broker
