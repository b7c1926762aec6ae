// Time that passes when a test says so, and not with the machine's: what is due runs in its order, however slow
// the machine is, and nothing runs that is not due, however late it is.
#pragma once

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <optional>

#include "broker/wait/loop.h"
#include "broker/wait/time_source.h"

namespace mapcap::test {

class VirtualTime final : public broker::TimeSource {
 public:
  VirtualTime() : alarm_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) { EXPECT_TRUE(alarm_.valid()); }

  /// So much time passes; meanwhile the loop, which is not running, does everything that becomes due, each at
  /// its own moment, and all that comes of it without waiting for anybody else.
  void advance(broker::Loop& loop, Time time) {
    const Time end = now() + time;
    loop.run_ready();
    for (std::optional<Time> next = next_alarm(); next && *next <= end; next = next_alarm()) {
      pass(std::max(*next - now(), Time::zero()));
      loop.run_ready();
    }
    pass(std::max(end - now(), Time::zero()));
    loop.run_ready();
  }

  /// So much time passes at once. What becomes due by it runs when the loop next looks. Of any thread.
  void pass(Time time) {
    const std::lock_guard lock(mutex_);
    now_ += time;
    ring_if_due();
  }
  /// Somebody works: that takes time, and is processor time of the calling thread. Of any thread.
  void work(Time cost) {
    mine().worked += cost;
    pass(cost);
  }
  /// Whether the loop has not yet looked at what became due.
  [[nodiscard]] bool rings() const {
    pollfd alarm{alarm_.get(), POLLIN, 0};
    return ::poll(&alarm, 1, 0) == 1;
  }

  [[nodiscard]] Time now() const override {
    const std::lock_guard lock(mutex_);
    return now_;
  }
  [[nodiscard]] Time awake() const override { return now(); }
  [[nodiscard]] Time worked() const override { return mine().worked; }
  [[nodiscard]] BorrowedFd alarm() const override { return alarm_.borrow(); }
  void set_alarm(std::optional<Time> at) override {
    const std::lock_guard lock(mutex_);
    std::uint64_t rang = 0;
    [[maybe_unused]] const ssize_t drained = ::read(alarm_.get(), &rang, sizeof rang);
    next_ = at;
    ring_if_due();
  }

 private:
  struct OfThread {
    Time worked{0};
  };
  static OfThread& mine() {
    static thread_local OfThread one;
    return one;
  }
  std::optional<Time> next_alarm() const {
    const std::lock_guard lock(mutex_);
    return next_;
  }
  void ring_if_due() {
    if (!next_ || *next_ > now_) return;
    const std::uint64_t one = 1;
    EXPECT_EQ(::write(alarm_.get(), &one, sizeof one), static_cast<ssize_t>(sizeof one));
  }

  Fd alarm_;
  mutable std::mutex mutex_;
  Time now_ = std::chrono::hours(1);  ///< Some machine's, which was not started just now.
  std::optional<Time> next_;
};

}  // namespace mapcap::test
