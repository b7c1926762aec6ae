#include "broker/turns/ration.h"

#include <algorithm>

namespace mapcap::broker {

void Ration::charge(uid_t uid, Time cost, Time now) {
  if (last_.uid != uid) other_ = last_;
  last_ = {uid, now};
  if (users_.size() >= kMostUsers && !users_.contains(uid)) forget_idle(now);
  User& user = users_[uid];
  user.paid_up = std::max(user.paid_up, now - cost) + cost * kShares;
  if (alone(uid, now)) user.paid_up = std::min(user.paid_up, now + kBurst * kShares);
}

Ration::Time Ration::rest(uid_t uid, Time now) {
  const auto found = users_.find(uid);
  if (found == users_.end() || alone(uid, now)) return Time::zero();
  User& user = found->second;
  const Time debt = user.paid_up - now;
  if (debt > kBurst * kShares) user.resting = true;
  const Time left = debt - kBurst * kShares / 2;
  if (left <= Time::zero()) user.resting = false;
  return user.resting ? left : Time::zero();
}

bool Ration::alone(uid_t uid, Time now) const {
  const Served& somebody_else = last_.uid == uid ? other_ : last_;
  return now - somebody_else.at >= kCompany;
}

void Ration::forget_idle(Time now) {
  std::erase_if(users_, [now](const auto& entry) { return entry.second.paid_up <= now; });
  // All of them busy: only a holder of a range of subordinate uids gets here, and gains one burst by it.
  if (users_.size() >= kMostUsers) users_.clear();
}

}  // namespace mapcap::broker
