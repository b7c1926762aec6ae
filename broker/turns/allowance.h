// What costs somebody else more than time: each principal has so many at once, and then one in a while. For what cannot
// be counted, since nobody tells the broker when it is given back.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <unordered_map>

namespace mapcap::broker {

/// Loop only. Forgets whoever has all of his again.
class Allowance {
 public:
  using Time = std::chrono::nanoseconds;  ///< Since some fixed point; monotonic.

  Allowance(std::uint32_t at_once, Time next_after) : burst_(next_after * at_once), each_(next_after) {}

  /// Takes one. False when there is none left now.
  bool take(std::uint32_t principal, Time now) {
    std::erase_if(spent_until_, [now](const auto& one) { return one.second <= now; });
    Time& until = spent_until_.try_emplace(principal, now).first->second;
    if (until + each_ - now > burst_) return false;
    until += each_;
    return true;
  }
  /// Until there is one again, after take() had none.
  [[nodiscard]] Time wait(std::uint32_t principal, Time now) const {
    const auto found = spent_until_.find(principal);
    return found == spent_until_.end() ? Time::zero()
                                       : std::max(found->second + each_ - burst_ - now, Time::zero());
  }
  [[nodiscard]] std::size_t remembered() const { return spent_until_.size(); }

 private:
  Time burst_;
  Time each_;
  /// When everything that was taken is given again.
  std::unordered_map<std::uint32_t, Time> spent_until_;
};

}  // namespace mapcap::broker
