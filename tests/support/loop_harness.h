// Runs tasks of the broker's kind on a loop and a worker of the test's own.
#pragma once

#include <optional>
#include <utility>

#include "broker/wait/loop.h"
#include "broker/wait/task.h"
#include "broker/wait/worker.h"

namespace mapcap::test {

class LoopHarness {
 public:
  broker::Loop loop;
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

}  // namespace mapcap::test
