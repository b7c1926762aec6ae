#include "broker/wait/time_source.h"

#include <sys/timerfd.h>

#include <algorithm>
#include <ctime>

#include "base/result.h"

namespace mapcap::broker {
namespace {

TimeSource::Time read_clock(clockid_t which) {
  timespec time{};
  ::clock_gettime(which, &time);
  return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

}  // namespace

// A timerfd on CLOCK_BOOTTIME: Asio's own timers stop while the machine is suspended.
BootTime::BootTime() : timer_(::timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK | TFD_CLOEXEC)) {
  MAPCAP_INVARIANT(timer_.valid(), "timerfd_create failed");
}

TimeSource::Time BootTime::now() const {
  return read_clock(CLOCK_BOOTTIME);
}
TimeSource::Time BootTime::awake() const {
  return read_clock(CLOCK_MONOTONIC);
}
TimeSource::Time BootTime::worked() const {
  return read_clock(CLOCK_THREAD_CPUTIME_ID);
}

void BootTime::set_alarm(std::optional<Time> at) {
  itimerspec spec{};
  if (at) {
    const std::int64_t ns = std::max<std::int64_t>(at->count(), 1);  // 0 would be none.
    spec.it_value.tv_sec = ns / 1'000'000'000;
    spec.it_value.tv_nsec = ns % 1'000'000'000;
  }
  ::timerfd_settime(timer_.get(), TFD_TIMER_ABSTIME, &spec, nullptr);
}

}  // namespace mapcap::broker
