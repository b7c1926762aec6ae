// The same thing again and again: told once, and then by how often it came.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace mapcap::broker {

class Repeats {
 public:
  using Time = std::chrono::nanoseconds;  ///< Since some fixed point; monotonic.

  /// What came again within that time after it was told is only counted.
  static constexpr Time kCounted = std::chrono::seconds(60);
  /// Different things that are counted; what comes beside them is told each time.
  static constexpr std::size_t kMost = 256;

  /// True when it is to be told now. `key`: what is the same.
  bool first(const std::string& key, Time now) {
    const auto found = seen_.find(key);
    if (found != seen_.end()) {
      ++found->second.again;
      return false;
    }
    if (seen_.size() < kMost) seen_.emplace(key, Seen{now, 0});
    return true;
  }

  struct Again {
    std::string key;
    std::uint64_t times = 0;
  };
  /// What was counted and is over by now: told once more, with its count, and then new again.
  std::vector<Again> over(Time now) {
    std::vector<Again> all;
    for (auto at = seen_.begin(); at != seen_.end();) {
      if (now - at->second.since < kCounted) {
        ++at;
        continue;
      }
      if (at->second.again > 0) all.push_back({at->first, at->second.again});
      at = seen_.erase(at);
    }
    return all;
  }

  /// When the next is over; 0: there is none.
  [[nodiscard]] Time next() const {
    Time soonest{0};
    for (const auto& [key, seen] : seen_) {
      const Time end = seen.since + kCounted;
      if (soonest == Time::zero() || end < soonest) soonest = end;
    }
    return soonest;
  }

 private:
  struct Seen {
    Time since{0};
    std::uint64_t again = 0;
  };
  std::unordered_map<std::string, Seen> seen_;
};

}  // namespace mapcap::broker
