#include "broker/fair_gate.h"

#include <ctime>

namespace mapcap::broker {
namespace {

Ration::Time clock(clockid_t which) {
  timespec time{};
  ::clock_gettime(which, &time);
  return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

}  // namespace

Ration::Time FairGate::worked() {
  return clock(CLOCK_THREAD_CPUTIME_ID);
}

Ration::Time FairGate::charge(uid_t uid, Ration::Time before) {
  const Ration::Time now = clock(CLOCK_MONOTONIC);
  ration_.charge(uid, worked() - before, now);
  return ration_.rest(uid, now);
}

void FairGate::enqueue(uid_t uid, std::coroutine_handle<> waiting) {
  User& user = users_[uid];
  user.waiting.push_back(waiting);
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
  if (const Ration::Time rest = ration_.rest(uid, clock(CLOCK_MONOTONIC)); rest > Ration::Time::zero()) {
    stand_aside(uid, user, rest);
    return schedule();
  }
  user.in_line = false;
  std::coroutine_handle<> next = user.waiting.front();
  user.waiting.pop_front();
  ++user.running;
  stand_in_line(uid, user);
  schedule();
  const Ration::Time before = worked();
  next.resume();  // May end the turn, and erase `user`.
  charge(uid, before);
}

}  // namespace mapcap::broker
