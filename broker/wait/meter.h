// Whose work a thread does, and what it costs.
//
// A request waits several times before it is answered, and meanwhile the loop works for others. Whatever
// waits keeps a Waiter (loop.h), which remembers on whose account it ran, so that all of the loop's time for
// a user is that user's, not only the time until it first waited.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <optional>
#include <utility>

#include "broker/wait/time_source.h"

namespace mapcap::broker {

/// For one thread.
class Meter {
 public:
  using Time = TimeSource::Time;
  using Account = std::optional<uid_t>;  ///< Empty: nobody's work, such as the broker's own housekeeping.

  explicit Meter(const TimeSource& time) : time_(time) {}

  /// `charge` gets what was worked for an account, whenever the work for it stops or pauses. Without one
  /// nothing is measured.
  void on_charge(std::function<void(uid_t account, Time cost)> charge) { charge_ = std::move(charge); }

  /// `rest` says for how long an account is to leave the loop to others. Without one nobody is.
  void on_rest(std::function<Time(uid_t account)> rest) { rest_ = std::move(rest); }

  [[nodiscard]] Account account() const { return account_; }

  /// For work that another thread or process did for an account.
  void charge(uid_t account, Time cost) const {
    if (charge_) charge_(account, cost);
  }
  /// Charges what was worked so far for whoever it is for, and says how long he is to rest.
  Time settle();

  /// The loop does something that is nobody's: its cost is not the next one's. What the loop itself takes to find the
  /// next work, on the other hand, is: measuring it would cost as much again.
  void nobodys() { followed_ = false; }
  /// What was done for an account ends, and nothing but the loop's own steps follows.
  void pause(Account before) {
    turn_to(before);
    followed_ = !before;
  }

  /// Work is for `account` from now on. Returns for whom it was before.
  Account turn_to(Account account);

  /// Until it ends, work is for `account`; then again for whom it was before. Not across a co_await: what
  /// runs meanwhile would be charged too.
  class [[nodiscard]] Scope {
   public:
    Scope(Meter& meter, Account account) : meter_(meter), before_(meter.turn_to(account)) {}
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
    ~Scope() { meter_.turn_to(before_); }

   private:
    Meter& meter_;
    Account before_;
  };

 private:
  const TimeSource& time_;
  std::function<void(uid_t, Time)> charge_;
  std::function<Time(uid_t)> rest_;
  Account account_;
  Time since_{0};          ///< What was worked when it became this account's.
  bool followed_ = false;  ///< Since then only the loop itself has worked.
};

}  // namespace mapcap::broker
