#include "broker/regions/clock.h"

#include <algorithm>
#include <ctime>

namespace mapcap::broker {

namespace {

std::int64_t read_clock(clockid_t which) {
  timespec now{};
  ::clock_gettime(which, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

template <typename Record>
void start(Record& record, std::chrono::nanoseconds ttl, const ledger::BootId& boot, const Clock& clock) {
  record.ttl_ns = static_cast<std::uint64_t>(ttl.count());
  record.boot = boot;
  record.expires_boot_ns = clock.boot_ns() + ttl.count();
  record.expires_unix_ns = clock.unix_ns() + ttl.count();
}

template <typename Record>
std::chrono::nanoseconds left(Record& record, const ledger::BootId& boot, const Clock& clock) {
  if (record.boot != boot) {
    const auto ttl = static_cast<std::int64_t>(record.ttl_ns);
    const std::int64_t rest = std::clamp<std::int64_t>(record.expires_unix_ns - clock.unix_ns(), 0, ttl);
    record.boot = boot;
    record.expires_boot_ns = clock.boot_ns() + rest;
  }
  return std::chrono::nanoseconds(std::max<std::int64_t>(record.expires_boot_ns - clock.boot_ns(), 0));
}

}  // namespace

std::int64_t SystemClock::boot_ns() const {
  return read_clock(CLOCK_BOOTTIME);
}
std::int64_t SystemClock::unix_ns() const {
  return read_clock(CLOCK_REALTIME);
}

void start_ttl(ledger::RegionRecord& record, std::chrono::nanoseconds ttl, const ledger::BootId& boot,
               const Clock& clock) {
  record.lifetime = LifetimeKind::ttl;
  start(record, ttl, boot, clock);
}

void start_ttl(ledger::EndpointRecord& record, std::chrono::nanoseconds ttl, const ledger::BootId& boot,
               const Clock& clock) {
  start(record, ttl, boot, clock);
}

std::chrono::nanoseconds remaining(ledger::RegionRecord& record, const ledger::BootId& boot,
                                   const Clock& clock) {
  return left(record, boot, clock);
}

std::chrono::nanoseconds remaining(ledger::EndpointRecord& record, const ledger::BootId& boot,
                                   const Clock& clock) {
  return left(record, boot, clock);
}

}  // namespace mapcap::broker
