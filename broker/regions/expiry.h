// When ttl regions end, and when their clients are warned. One timer, for whichever is next.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <unordered_map>

#include "base/units.h"
#include "broker/wait/loop.h"

namespace mapcap::broker {

class Expiry {
 public:
  struct Actions {
    std::function<void(RegionId)> expire;
    std::function<void(RegionId, std::chrono::nanoseconds left)> warn;
  };
  Expiry(Loop& loop, Actions actions) : loop_(loop), actions_(std::move(actions)) {}

  /// How long before its end a region's clients are warned. 0: not at all.
  void set_warning(std::chrono::nanoseconds ahead) { warning_ = ahead; }

  /// Replaces what was scheduled for the region. Due within a second of `left` from now, in practice a
  /// millisecond.
  void schedule(RegionId region, std::chrono::nanoseconds left);
  void forget(RegionId region);
  /// Ends and warnings that are to come.
  [[nodiscard]] std::size_t pending() const { return std::max(queue_.size(), by_region_.size()); }

 private:
  struct Due {
    RegionId region;
    bool warning = false;
  };
  using Queue = std::multimap<TimeSource::Time, Due>;
  void fire();
  void arm();

  Loop& loop_;
  Actions actions_;
  std::chrono::nanoseconds warning_{0};
  Queue queue_;  ///< By the loop's time.
  std::unordered_multimap<std::uint64_t, Queue::iterator> by_region_;
  Loop::Timer timer_;
};

}  // namespace mapcap::broker
