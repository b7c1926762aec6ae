// How many things of one kind are kept ready, made ahead while nobody waits: none at first, more as they are asked
// for and missing, none again when nobody has asked for a while. It makes nothing itself.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <deque>
#include <optional>
#include <utility>

namespace mapcap::broker::keeper {

template <typename Thing>
class Stock {
 public:
  using Time = std::chrono::nanoseconds;  ///< Since some fixed point; monotonic.

  /// Nobody has asked for that long: what is ready goes.
  static constexpr Time kIdle = std::chrono::seconds(10);
  /// One who asks once and again gets that many; each who finds none doubles it, and so does a second in which more are
  /// taken than that: few at a time cost as much to order as many.
  static constexpr std::size_t kFirst = 4;
  static constexpr std::size_t kCeiling = 1024;
  static constexpr Time kWindow = std::chrono::seconds(1);

  /// The oldest that is ready, or nothing, which is remembered.
  std::optional<Thing> take(Time now) {
    const bool busy = !idle(now);
    used_ = now;
    if (ready_.empty()) {
      // A single request, such as a command's, is no reason to work ahead.
      if (busy) grow();
      return std::nullopt;
    }
    if (now - window_ >= kWindow) {
      window_ = now;
      taken_ = 0;
    }
    if (++taken_ > wanted_) {
      grow();
      taken_ = 0;
    }
    std::optional<Thing> thing(std::move(ready_.front()));
    ready_.pop_front();
    return thing;
  }

  /// How many are to be made now, where there may be `most`; ordered() says that they are on their way. Not one by
  /// one: half of what is wanted, or more, at a time.
  [[nodiscard]] std::size_t missing(std::size_t most) const {
    const std::size_t wanted = std::min(wanted_, most);
    const std::size_t there = ready_.size() + ordered_;
    return there > wanted / 2 ? 0 : wanted - there;
  }
  void ordered(std::size_t count) { ordered_ += count; }
  void arrived(Thing thing) {
    --ordered_;
    ready_.push_back(std::move(thing));
  }
  /// It could not be made, for now: asking again at once would not help.
  void failed() {
    --ordered_;
    wanted_ = 0;
  }

  /// Some are worth having.
  [[nodiscard]] bool in_demand() const { return wanted_ > 0; }

  /// Nobody has asked for a while, or ever.
  [[nodiscard]] bool idle(Time now) const { return !used_ || now - *used_ >= kIdle; }
  [[nodiscard]] std::size_t ready() const { return ready_.size(); }
  [[nodiscard]] std::size_t on_their_way() const { return ordered_; }

  /// All that is ready, which is not here any more. What is on its way still arrives.
  [[nodiscard]] std::deque<Thing> clear() {
    wanted_ = 0;
    return std::exchange(ready_, {});
  }

 private:
  void grow() { wanted_ = std::clamp(wanted_ * 2, kFirst, kCeiling); }

  std::deque<Thing> ready_;
  std::size_t ordered_ = 0;
  std::size_t wanted_ = 0;
  std::optional<Time> used_;
  Time window_{0};
  std::size_t taken_ = 0;  ///< Since then.
};

}  // namespace mapcap::broker::keeper
