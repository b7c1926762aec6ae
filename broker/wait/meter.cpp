#include "broker/wait/meter.h"

#include <ctime>

namespace mapcap::broker {

Meter::Time Meter::worked() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

Meter::Account Meter::turn_to(Account account) {
  if (account == account_) return account;
  if (charge_) {
    const Time now = worked();
    if (account_) charge_(*account_, now - since_);
    since_ = now;
  }
  return std::exchange(account_, account);
}

Meter::Time Meter::settle() {
  if (!account_) return Time::zero();
  const Account account = turn_to(std::nullopt);
  turn_to(account);
  return rest_ ? rest_(*account) : Time::zero();
}

}  // namespace mapcap::broker
