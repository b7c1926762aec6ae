#include "broker/regions/expiry.h"

namespace mapcap::broker {
void Expiry::schedule(RegionId region, std::chrono::nanoseconds left) {
  forget(region);
  const std::int64_t end = clock_.boot_ns() + left.count();
  by_region_.emplace(region.value, queue_.emplace(end, Due{region, false}));
  // Not at once: who renews without a pause would have its readers told without a pause.
  if (warning_.count() > 0 && left > warning_ + warning_ / 8) {
    by_region_.emplace(region.value, queue_.emplace(end - warning_.count(), Due{region, true}));
  }
  arm();
}

void Expiry::forget(RegionId region) {
  auto [from, to] = by_region_.equal_range(region.value);
  for (auto at = from; at != to; ++at) queue_.erase(at->second);
  by_region_.erase(from, to);
}

void Expiry::arm() {
  if (queue_.empty()) {
    timer_ = Loop::Timer();
    return;
  }
  const std::int64_t wait = queue_.begin()->first - clock_.boot_ns();
  timer_ = loop_.after(std::chrono::nanoseconds(wait), [this] { fire(); });
}

/// One for each turn of the loop: those that end together must not keep it from everybody else.
void Expiry::fire() {
  if (!queue_.empty() && queue_.begin()->first <= clock_.boot_ns()) {
    const Due due = queue_.begin()->second;
    auto [from, to] = by_region_.equal_range(due.region.value);
    for (auto at = from; at != to; ++at) {
      if (at->second == queue_.begin()) {
        by_region_.erase(at);
        break;
      }
    }
    queue_.erase(queue_.begin());
    if (due.warning) {
      actions_.warn(due.region, warning_);
    } else {
      actions_.expire(due.region);
    }
  }
  arm();
}

}  // namespace mapcap::broker
