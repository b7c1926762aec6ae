// How fast one user's requests are answered when it asks too many.
//
// A refused read costs the keeper as much as an issuing open, and FUSE queues all requests first come, first
// served. A token bucket per uid turns a flood into a wait of the flooder: the answer that finds the bucket
// empty is held back until its token is there. The flooder's threads sleep in their own system calls, so a
// flood cannot become larger than its threads, and costs the keeper at most kRate requests a second for each
// uid.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <unordered_map>

namespace mapcap::broker::keeper {

class Throttle {
 public:
  using Time = std::chrono::nanoseconds;  ///< Since some fixed point; monotonic.

  /// Requests a second: a few hundredths of one CPU.
  static constexpr std::int64_t kRate = 4'000;
  /// Requests: a program that reads all attributes of 500 grants at once is not held up.
  static constexpr std::int64_t kBurst = 4'000;
  /// A flooder that is killed waits for its held answers, so none is held for ever; up to kLongest * kRate
  /// threads of one uid are kept to the rate.
  static constexpr Time kLongest = std::chrono::milliseconds(500);

  /// Charges `uid` one request; returns how long to hold the answer back, 0 to kLongest.
  Time charge(std::uint32_t uid, Time now) {
    constexpr Time per_token = std::chrono::nanoseconds(1'000'000'000 / kRate);
    if (full_at_.size() >= kMostUids && !full_at_.contains(uid)) forget_idle(now);
    // When the bucket would be full again if nothing more came. Each request moves it by one token.
    Time& full_at = full_at_[uid];
    full_at = std::max(full_at, now) + per_token;
    const Time debt = full_at - now - kBurst * per_token;
    if (debt <= Time::zero()) return Time::zero();
    // Debt is bounded too, so that a uid that has stopped is free again after a moment.
    if (debt > kLongest) full_at -= debt - kLongest;
    return std::min(debt, kLongest);
  }

  [[nodiscard]] std::size_t uids() const { return full_at_.size(); }

 private:
  static constexpr std::size_t kMostUids = 4096;

  void forget_idle(Time now) {
    std::erase_if(full_at_, [now](const auto& entry) { return entry.second <= now; });
    // All of them busy: only a holder with a range of subordinate uids gets here, and gains one burst by it.
    if (full_at_.size() >= kMostUids) full_at_.clear();
  }

  std::unordered_map<std::uint32_t, Time> full_at_;
};

}  // namespace mapcap::broker::keeper
