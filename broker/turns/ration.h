// How much of the loop's time one user gets while others are served too.
//
// The loop has one thread. A user who keeps it busy (packets that must be received only to be refused,
// connections beyond a limit, requests without end) keeps whatever shares its processor from running: other
// clients, and the keeper that they wait for. Turns alone do not help against that, since a flooder always
// has another request when nobody else has. So the time that each user's requests cost the loop is measured,
// and a user rests when it had more than its share, in pieces that are short beside a request:
//
//     cost of a user within any t <= t / kShares + kBurst
//
// A rest ends when half of the burst is there again: a flooder's pieces are then half as long as its first,
// and so are the waits behind them.
//
// What was taken is paid in full, however much it was: else one request that is long enough would buy the loop
// for a price of its own choice. Who is alone takes all there is, and owes nobody anything for it: nobody waits
// for what resting would leave. A user with several uids is several users.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <unordered_map>

namespace mapcap::broker {

class Ration {
 public:
  using Time = std::chrono::nanoseconds;  ///< Since some fixed point; monotonic.

  /// A user gets 1 / kShares of the loop's time.
  static constexpr int kShares = 2;
  /// What it may take in one go: a few requests.
  static constexpr Time kBurst = std::chrono::microseconds(200);
  /// Others count for so long after they were last served.
  static constexpr Time kCompany = std::chrono::seconds(60);

  /// The loop has worked for `uid` from `now - cost` to `now`.
  void charge(uid_t uid, Time cost, Time now);

  /// How long `uid` is not to be served, from `now` on; 0 when it may go on.
  [[nodiscard]] Time rest(uid_t uid, Time now);

  [[nodiscard]] std::size_t users() const { return users_.size(); }

 private:
  static constexpr std::size_t kMostUsers = 4096;
  static constexpr Time kLongAgo = -kCompany;

  struct User {
    Time paid_up = kLongAgo;  ///< When its share will have made up for what it took.
    bool resting = false;
  };
  struct Served {
    uid_t uid = 0;
    Time at = kLongAgo;
  };

  [[nodiscard]] bool alone(uid_t uid, Time now) const;
  void forget_idle(Time now);

  std::unordered_map<uid_t, User> users_;
  Served last_;   ///< Who was served last,
  Served other_;  ///< and who before, of all others.
};

}  // namespace mapcap::broker
