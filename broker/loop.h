// The broker's one event loop. Boost.Asio is behind it (loop.cpp) and nowhere else.
//
// Everything but post() is for the loop's own thread.
#pragma once

#include <chrono>
#include <coroutine>
#include <functional>
#include <memory>

#include "schema/unique_fd.h"

namespace mapcap::broker {

class Loop {
 public:
  Loop();
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  /// Runs until stop(). Returns at once when stop() came first. May be called again.
  void run();
  void stop();

  /// Runs `work` on the loop's thread, after this call has returned. Thread-safe.
  void post(std::function<void()> work);

  /// Runs `work` once after `delay`, unless the Timer is gone by then. Monotonic clock that counts suspend
  /// (CLOCK_BOOTTIME): a ttl must not stand still with the machine.
  class Timer {
   public:
    struct State;  // loop.cpp
    Timer();
    ~Timer();
    Timer(Timer&&) noexcept;
    Timer& operator=(Timer&&) noexcept;

   private:
    friend class Loop;
    explicit Timer(std::shared_ptr<State> state);
    std::shared_ptr<State> state_;
  };
  [[nodiscard]] Timer after(std::chrono::nanoseconds delay, std::function<void()> work);

  /// co_await loop.sleep(d)
  auto sleep(std::chrono::nanoseconds delay) {
    struct Awaiter {
      Loop& loop;
      std::chrono::nanoseconds delay;
      Timer timer;
      [[nodiscard]] bool await_ready() const noexcept { return delay.count() <= 0; }
      void await_suspend(std::coroutine_handle<> waiting) {
        timer = loop.after(delay, [waiting] { waiting.resume(); });
      }
      void await_resume() noexcept {}
    };
    return Awaiter{*this, delay, {}};
  }

  /// Lets everything that is already due run first: co_await loop.yield().
  auto yield() {
    struct Awaiter {
      Loop& loop;
      [[nodiscard]] bool await_ready() const noexcept { return false; }
      void await_suspend(std::coroutine_handle<> waiting) {
        loop.post([waiting] { waiting.resume(); });
      }
      void await_resume() noexcept {}
    };
    return Awaiter{*this};
  }

  /// Readiness of one descriptor. At most one waiter for each direction at a time.
  class Watch {
   public:
    /// The descriptor stays the caller's and must outlive the watch.
    Watch(Loop& loop, schema::BorrowedFd fd);
    ~Watch();
    Watch(Watch&&) noexcept;
    Watch& operator=(Watch&&) = delete;

    /// Completes every wait with false, now and in future. The waiter is resumed from the loop, not from
    /// here.
    void cancel();

    /// co_await: true when ready (or in error or hung up), false when cancelled.
    auto readable() { return Awaiter{*this, Direction::read}; }
    auto writable() { return Awaiter{*this, Direction::write}; }

   private:
    enum class Direction : unsigned char { read, write };
    struct State;
    struct Awaiter {
      Watch& watch;
      Direction direction;
      bool ready = false;
      [[nodiscard]] bool await_ready() const noexcept { return false; }
      void await_suspend(std::coroutine_handle<> waiting) { watch.wait(direction, waiting, &ready); }
      [[nodiscard]] bool await_resume() const noexcept { return ready; }
    };
    void wait(Direction direction, std::coroutine_handle<> waiting, bool* ready);
    std::shared_ptr<State> state_;
  };

  /// Calls `work` on each of the given signals (blocked for all threads by the caller's process setup).
  void on_signal(std::initializer_list<int> signals, std::function<void(int)> work);

 private:
  friend class Watch;
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace mapcap::broker
