// A promise of a time, on a machine that others use too: what anybody had to wait for meanwhile is not counted
// against the broker.
//
// /proc/pressure tells for how long some task waited for a processor, a disk or memory, as an average over the
// processors that were busy. On each of them it was at most so many times as long as there are processors. Where
// the kernel does not tell (CONFIG_PSI), all time counts.
#pragma once

#include <chrono>
#include <cstdint>
#include <fstream>
#include <initializer_list>
#include <string>
#include <thread>

namespace mapcap::test {

/// Begins when it is made.
class FairStopwatch {
 public:
  using Clock = std::chrono::steady_clock;

  /// What has passed, without what the machine may have kept anybody waiting for; at least 0.
  [[nodiscard]] Clock::duration took() const {
    const Clock::duration all = Clock::now() - began_;
    const Clock::duration waits = waited() - waited_;
    return all > waits ? all - waits : Clock::duration::zero();
  }

  /// Sleeps until that has passed so; on a machine that is never idle, for ten times as long and no more.
  void pass(Clock::duration span) const {
    for (const auto most = began_ + 10 * span; took() < span && Clock::now() < most;)
      std::this_thread::sleep_for(span / 20);
  }

 private:
  static Clock::duration waited() {
    std::uint64_t us = 0;
    for (const char* what : {"cpu", "io", "memory"}) {
      std::ifstream file(std::string("/proc/pressure/") + what);
      std::string line;
      const std::string total = "total=";
      if (!std::getline(file, line) || line.find(total) == std::string::npos) continue;  // "some ..."
      us += std::stoull(line.substr(line.find(total) + total.size()));
    }
    return std::chrono::microseconds(us) * std::thread::hardware_concurrency();
  }

  Clock::duration waited_ = waited();
  Clock::time_point began_ = Clock::now();
};

}  // namespace mapcap::test
