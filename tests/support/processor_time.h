// What work costs, rather than how long it takes: the calling thread's processor time, which neighbours leave
// alone.
#pragma once

#include <algorithm>
#include <chrono>
#include <ctime>

namespace mapcap::test {

/// Of `body`, the best of five: what else may disturb it (an interrupt, a cold cache) only adds.
template <typename Body>
std::chrono::nanoseconds processor_time(Body body) {
  const auto worked = [] {
    timespec time{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
  };
  auto best = std::chrono::nanoseconds::max();
  for (int i = 0; i < 5; ++i) {
    const std::chrono::nanoseconds before = worked();
    body();
    best = std::min(best, worked() - before);
  }
  return best;
}

}  // namespace mapcap::test
