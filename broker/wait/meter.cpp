#include "broker/wait/meter.h"

namespace mapcap::broker {

Meter::Account Meter::turn_to(Account account) {
  if (account == account_) {
    // Nobody's work begins, goes on or ends here: whoever is next does not pay for it.
    if (!account && charge_ && !followed_) since_ = time_.worked();
    return account;
  }
  if (charge_ && !(followed_ && !account_)) {
    const Time now = time_.worked();
    if (account_) charge_(*account_, now - since_);
    since_ = now;
  }
  followed_ = false;
  return std::exchange(account_, account);
}

Meter::Time Meter::settle() {
  if (!account_) return Time::zero();
  const Account account = turn_to(std::nullopt);
  turn_to(account);
  return rest_ ? rest_(*account) : Time::zero();
}

}  // namespace mapcap::broker
