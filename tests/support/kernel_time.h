// The kernel's time on a loop that may have another: for what processes and filesystems take.
#pragma once

#include <chrono>
#include <functional>

#include "broker/wait/loop.h"
#include "broker/wait/task.h"
#include "broker/wait/time_source.h"
#include "tests/support/patience.h"

namespace mapcap::test {

class KernelTime {
 public:
  explicit KernelTime(broker::Loop& loop) : watch_(loop, time_.alarm()) {}

  /// False when it was cancelled meanwhile.
  broker::Task<bool> pass(std::chrono::nanoseconds time) {
    time_.set_alarm(time_.now() + time);
    co_return co_await watch_.readable();
  }
  void cancel() { watch_.cancel(); }

 private:
  broker::BootTime time_;
  broker::Loop::Watch watch_;
};

/// Waits for what other threads and processes bring about: true as soon as it `holds`.
inline broker::Task<bool> eventually(broker::Loop& loop, std::function<bool()> holds) {
  KernelTime kernel(loop);
  const auto until = std::chrono::steady_clock::now() + kPatience;
  while (!holds()) {
    if (std::chrono::steady_clock::now() > until) co_return false;
    (void)co_await kernel.pass(std::chrono::milliseconds(1));
  }
  co_return true;
}

}  // namespace mapcap::test
