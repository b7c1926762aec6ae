// A piece of long work for somebody, after which others get their turns.
#pragma once

#include <chrono>
#include <cstdint>

#include "broker/wait/meter.h"
#include "broker/wait/time_source.h"

namespace mapcap::broker {

class Slice {
 public:
  static constexpr Meter::Time kLength = std::chrono::microseconds(100);
  static constexpr std::uint32_t kSteps = 8;  ///< Asking what was worked costs as much as some steps.

  explicit Slice(const TimeSource& time) : time_(&time) {}

  /// After each step: whether that was enough.
  bool over() { return ++steps_ % kSteps == 0 && time_->worked() - began_ >= kLength; }

 private:
  const TimeSource* time_;
  Meter::Time began_ = time_->worked();
  std::uint32_t steps_ = 0;
};

}  // namespace mapcap::broker
