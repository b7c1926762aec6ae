#include "broker/regions/expiry.h"

namespace mapcap::broker {
void Expiry::schedule(RegionId region, std::chrono::nanoseconds left) {
  forget(region);
  const TimeSource::Time end = loop_.time().now() + left;
  by_region_.emplace(region.value, queue_.emplace(end, Due{region, false}));
  // Not at once: who renews without a pause would have its readers told without a pause.
  if (warning_.count() > 0 && left > warning_ + warning_ / 8) {
    by_region_.emplace(region.value, queue_.emplace(end - warning_, Due{region, true}));
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
  timer_ = loop_.after(queue_.begin()->first - loop_.time().now(), [this] { fire(); });
}

/// One for each turn of the loop: those that end together must not keep it from everybody else.
void Expiry::fire() {
  if (!queue_.empty() && queue_.begin()->first <= loop_.time().now()) {
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
