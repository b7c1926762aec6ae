// Runs tasks of the broker's kind on a loop and a worker of the test's own.
#pragma once

#include <optional>
#include <utility>

#include "broker/wait/loop.h"
#include "broker/wait/task.h"
#include "broker/wait/worker.h"
#include "tests/support/virtual_time.h"

namespace mapcap::test {

/// In a time that the loop does not have from anywhere else.
template <typename Time>
class LoopIn {
 public:
  Time time;
  broker::Loop loop{time};
  /// One thread: what it is given ends in the order in which it was given.
  broker::Worker worker{loop, 1};

  /// Runs the loop until the task has ended and returns its result.
  template <typename T>
  T run(broker::Task<T> task) {
    std::optional<T> result;
    loop.post([&] { broker::spawn(collect(std::move(task), result)); });
    while (!result) loop.run();
    return std::move(*result);
  }

 private:
  template <typename T>
  broker::Task<void> collect(broker::Task<T> task, std::optional<T>& result) {
    result.emplace(co_await std::move(task));
    loop.stop();
  }
};

/// In the machine's time: for tests that wait for threads.
using LoopHarness = LoopIn<broker::BootTime>;
/// In a time that stands still, unless a test makes it pass.
using StillLoop = LoopIn<VirtualTime>;

}  // namespace mapcap::test
