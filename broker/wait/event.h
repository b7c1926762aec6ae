// Something happened: wakes every coroutine that waits for it. One thread, the loop's.
#pragma once

#include <coroutine>
#include <utility>
#include <vector>

#include "broker/wait/loop.h"

namespace mapcap::broker {

/// Like a condition variable: waiters look at the state again after they are woken.
class Event {
 public:
  explicit Event(Loop& loop) : loop_(&loop) {}
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  /// Wakes all who wait now; through the loop, because whoever notifies is in the middle of its own work.
  void notify() {
    for (const Waiter& waiter : std::exchange(waiting_, {})) loop_->post(waiter);
  }

  /// co_await event.wait()
  auto wait() {
    struct Awaiter {
      Event& event;
      [[nodiscard]] bool await_ready() const noexcept { return false; }
      void await_suspend(std::coroutine_handle<> waiting) {
        event.waiting_.emplace_back(*event.loop_, waiting);
      }
      void await_resume() noexcept {}
    };
    return Awaiter{*this};
  }

 private:
  Loop* loop_;
  std::vector<Waiter> waiting_;
};

}  // namespace mapcap::broker
