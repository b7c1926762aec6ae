// Two clocks, and how a ttl is told across both.
//
// Within a boot a ttl runs on CLOCK_BOOTTIME: it counts suspend and no clock step touches it. Across boots
// only the wall clock is left; a step there can end a region early or late, but never by more than its own
// ttl:
//
//     remaining = same boot ? expires_boot - boot_now
//                           : clamp(expires_unix - unix_now, 0, ttl)
#pragma once

#include <chrono>
#include <cstdint>

#include "broker/ledger/table/record.h"

namespace mapcap::broker {

class Clock {
 public:
  virtual ~Clock() = default;
  [[nodiscard]] virtual std::int64_t boot_ns() const = 0;  ///< CLOCK_BOOTTIME
  [[nodiscard]] virtual std::int64_t unix_ns() const = 0;  ///< CLOCK_REALTIME
};

class SystemClock final : public Clock {
 public:
  [[nodiscard]] std::int64_t boot_ns() const override;
  [[nodiscard]] std::int64_t unix_ns() const override;
};

/// Sets both expiries of a ttl record to `ttl` from now.
void start_ttl(ledger::RegionRecord& record, std::chrono::nanoseconds ttl, const ledger::BootId& boot,
               const Clock& clock);
void start_ttl(ledger::EndpointRecord& record, std::chrono::nanoseconds ttl, const ledger::BootId& boot,
               const Clock& clock);

/// Time left of a ttl record, at least 0. After a reboot it also rebases the record on this boot.
std::chrono::nanoseconds remaining(ledger::RegionRecord& record, const ledger::BootId& boot,
                                   const Clock& clock);
std::chrono::nanoseconds remaining(ledger::EndpointRecord& record, const ledger::BootId& boot,
                                   const Clock& clock);

}  // namespace mapcap::broker
