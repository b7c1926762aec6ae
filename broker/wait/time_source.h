// Where a loop, and what runs on it, has its time from: the machine's clocks, or in tests a time that passes
// when the test says so (tests/support/virtual_time.h).
#pragma once

#include <chrono>
#include <optional>

#include "mapcap/fd.h"

namespace mapcap::broker {

/// now(), awake() and worked() may be called by any thread, the rest by the loop's.
class TimeSource {
 public:
  using Time = std::chrono::nanoseconds;

  TimeSource() = default;
  TimeSource(const TimeSource&) = delete;
  TimeSource& operator=(const TimeSource&) = delete;
  virtual ~TimeSource() = default;

  /// Since the machine's start; monotonic, and counts suspend: a ttl must not stand still with the machine.
  [[nodiscard]] virtual Time now() const = 0;
  /// The same without suspend: for what somebody had a thread for.
  [[nodiscard]] virtual Time awake() const = 0;
  /// Processor time of the calling thread: what its work cost, without what others took from it meanwhile.
  [[nodiscard]] virtual Time worked() const = 0;

  /// Non-blocking; readable, until it is read, from the moment that was set on. The source's own.
  [[nodiscard]] virtual BorrowedFd alarm() const = 0;
  /// By now(); at once when it is past. Replaces what was set before; nothing: no alarm.
  virtual void set_alarm(std::optional<Time> at) = 0;
};

/// CLOCK_BOOTTIME, CLOCK_MONOTONIC, CLOCK_THREAD_CPUTIME_ID and a timerfd.
class BootTime final : public TimeSource {
 public:
  BootTime();
  [[nodiscard]] Time now() const override;
  [[nodiscard]] Time awake() const override;
  [[nodiscard]] Time worked() const override;
  [[nodiscard]] BorrowedFd alarm() const override { return timer_.borrow(); }
  void set_alarm(std::optional<Time> at) override;

 private:
  Fd timer_;
};

}  // namespace mapcap::broker
