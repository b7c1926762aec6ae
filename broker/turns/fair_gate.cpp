#include "broker/turns/fair_gate.h"

namespace mapcap::broker {

FairGate::FairGate(Loop& loop) : loop_(loop) {
  loop_.meter().on_charge([this](uid_t uid, Ration::Time cost) { charge(uid, cost); });
  loop_.meter().on_rest([this](uid_t uid) { return rest(uid); });
}

FairGate::~FairGate() {
  loop_.meter().on_charge(nullptr);
  loop_.meter().on_rest(nullptr);
}

void FairGate::charge(uid_t uid, Ration::Time cost) {
  ration_.charge(uid, cost, loop_.time().now());
}

Ration::Time FairGate::rest(uid_t uid) {
  return ration_.rest(uid, loop_.time().now());
}

bool FairGate::take_at_once(uid_t uid, std::uint64_t connection) {
  if (asked_last_.size() >= kMostRemembered) asked_last_.clear();
  const auto [last, first] = asked_last_.try_emplace(uid, connection);
  const bool looked_since = !first && last->second == connection;
  last->second = connection;
  if (!looked_since || !line_.empty() || rest(uid) > Ration::Time::zero()) return false;
  User& user = users_[uid];
  // With somebody's waiting or aside the line is his too.
  if (user.in_line || !user.waiting.empty() || user.running > 0) return false;
  ++user.running;
  return true;
}

void FairGate::enqueue(uid_t uid, std::coroutine_handle<> waiting) {
  User& user = users_[uid];
  user.waiting.emplace_back(loop_, waiting, uid);
  stand_in_line(uid, user);
}

void FairGate::end(uid_t uid) {
  auto found = users_.find(uid);
  User& user = found->second;
  --user.running;
  stand_in_line(uid, user);
  if (user.running == 0 && user.waiting.empty() && !user.in_line) users_.erase(found);
}

void FairGate::stand_in_line(uid_t uid, User& user) {
  if (user.in_line || user.waiting.empty() || user.running >= kConcurrent) return;
  user.in_line = true;
  line_.push_back(uid);
  schedule();
}

void FairGate::stand_aside(uid_t uid, User& user, Ration::Time rest) {
  user.aside = loop_.after(rest, [this, uid] {
    line_.push_back(uid);
    schedule();
  });
}

void FairGate::schedule() {
  if (scheduled_ || line_.empty()) return;
  scheduled_ = true;
  loop_.post([this] {
    scheduled_ = false;
    serve_one();
  });
}

void FairGate::serve_one() {
  const uid_t uid = line_.front();
  line_.pop_front();
  User& user = users_.at(uid);
  if (const Ration::Time rest = this->rest(uid); rest > Ration::Time::zero()) {
    stand_aside(uid, user, rest);
    return schedule();
  }
  user.in_line = false;
  const Waiter next = user.waiting.front();
  user.waiting.pop_front();
  ++user.running;
  stand_in_line(uid, user);
  schedule();
  next.resume();  // May end the turn, and erase `user`.
}

}  // namespace mapcap::broker
