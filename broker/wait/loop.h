// The broker's one event loop. Boost.Asio is behind it (loop.cpp) and nowhere else.
//
// Everything but post() and time() is for the loop's own thread.
#pragma once

#include <chrono>
#include <coroutine>
#include <functional>
#include <memory>

#include "broker/wait/meter.h"
#include "broker/wait/time_source.h"
#include "mapcap/fd.h"

namespace mapcap::broker {

class Waiter;

class Loop {
 public:
  /// `time` outlives it, and is no other loop's.
  explicit Loop(TimeSource& time);
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  /// Runs until stop(). Returns at once when stop() came first. May be called again.
  void run();
  void stop();
  /// Runs what can run without waiting, and what comes of that, whatever stop() says: for who moves the loop's
  /// time on by himself.
  void run_ready();

  /// Runs `work` on the loop's thread, after this call has returned. Thread-safe.
  void post(std::function<void()> work);
  /// The same for a coroutine that waits.
  void post(Waiter waiter);

  /// Of the loop's own thread.
  [[nodiscard]] Meter& meter() { return meter_; }
  /// Thread-safe.
  [[nodiscard]] const TimeSource& time() const { return time_; }

  /// Runs `work` once after `delay`, by time().now(), unless the Timer is gone by then.
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
  auto sleep(std::chrono::nanoseconds delay) { return Sleep{*this, delay, {}}; }

  /// Lets everything that is already due run first: co_await loop.yield().
  auto yield() { return Yield{*this}; }

  /// Within long work for somebody: lets others go first, and for as long as he has had more than his share.
  /// co_await loop.give_way()
  auto give_way() { return GiveWay{*this, {}}; }

  /// Readiness of one descriptor. At most one waiter for each direction at a time.
  class Watch {
   public:
    /// The descriptor stays the caller's and must outlive the watch.
    Watch(Loop& loop, BorrowedFd fd);
    ~Watch();
    Watch(Watch&&) noexcept;
    Watch& operator=(Watch&&) = delete;

    /// Completes every wait with false, now and in future. The waiter is resumed from the loop, not from
    /// here.
    void cancel();

    /// co_await: true when ready (or in error or hung up), false when cancelled.
    auto readable() { return Awaiter{*this, Direction::read}; }
    auto writable() { return Awaiter{*this, Direction::write}; }
    /// The same when the peer of a socket has closed it, or it is in error; what lies in it unread does not matter.
    auto hung_up() { return Awaiter{*this, Direction::end}; }

   private:
    enum class Direction : unsigned char { read, write, end };
    struct State;
    struct Awaiter {
      Watch& watch;
      Direction direction;
      bool ready = false;
      [[nodiscard]] bool await_ready() const noexcept { return false; }
      inline void await_suspend(std::coroutine_handle<> waiting);
      [[nodiscard]] bool await_resume() const noexcept { return ready; }
    };
    void wait(Direction direction, Waiter waiter, bool* ready);
    Loop* loop_;
    std::shared_ptr<State> state_;
  };

  /// Calls `work` on each of the given signals (blocked for all threads by the caller's process setup).
  void on_signal(std::initializer_list<int> signals, std::function<void(int)> work);

 private:
  friend class Watch;
  struct Sleep {
    Loop& loop;
    std::chrono::nanoseconds delay;
    Timer timer;
    [[nodiscard]] bool await_ready() const noexcept { return delay.count() <= 0; }
    inline void await_suspend(std::coroutine_handle<> waiting);
    void await_resume() noexcept {}
  };
  struct Yield {
    Loop& loop;
    [[nodiscard]] bool await_ready() const noexcept { return false; }
    inline void await_suspend(std::coroutine_handle<> waiting);
    void await_resume() noexcept {}
  };

  struct GiveWay {
    Loop& loop;
    Timer timer;
    [[nodiscard]] bool await_ready() const noexcept { return false; }
    inline void await_suspend(std::coroutine_handle<> waiting);
    void await_resume() noexcept {}
  };

  struct Implementation;
  TimeSource& time_;
  Meter meter_;
  std::unique_ptr<Implementation> implementation_;
};

/// A coroutine that waits, and on whose account it goes on. Made and resumed on the loop's thread.
class Waiter {
 public:
  Waiter(Loop& loop, std::coroutine_handle<> waiting) : Waiter(loop, waiting, loop.meter().account()) {}
  Waiter(Loop& loop, std::coroutine_handle<> waiting, Meter::Account account)
      : loop_(&loop), waiting_(waiting), account_(account) {}

  void resume() const {
    Meter& meter = loop_->meter();
    if (!account_) meter.nobodys();
    const Meter::Account before = meter.turn_to(account_);
    waiting_.resume();
    meter.pause(before);
  }

 private:
  Loop* loop_;
  std::coroutine_handle<> waiting_;
  Meter::Account account_;
};

inline void Loop::Sleep::await_suspend(std::coroutine_handle<> waiting) {
  timer = loop.after(delay, [waiter = Waiter(loop, waiting)] { waiter.resume(); });
}
inline void Loop::Yield::await_suspend(std::coroutine_handle<> waiting) {
  loop.post(Waiter(loop, waiting));
}
inline void Loop::GiveWay::await_suspend(std::coroutine_handle<> waiting) {
  const Meter::Time rest = loop.meter().settle();
  if (rest <= Meter::Time::zero()) return loop.post(Waiter(loop, waiting));
  timer = loop.after(rest, [waiter = Waiter(loop, waiting)] { waiter.resume(); });
}
inline void Loop::Watch::Awaiter::await_suspend(std::coroutine_handle<> waiting) {
  watch.wait(direction, Waiter(*watch.loop_, waiting), &ready);
}

}  // namespace mapcap::broker
