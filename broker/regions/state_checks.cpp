#include "broker/regions/state_checks.h"

#include <string>

#include "base/words.h"

namespace mapcap::broker {

Result<void> check_grantable(const Region& region) {
  if (region.record.state == RegionState::lost) {
    const char* remedy = region.may_return()
                             ? "; bring its device or filesystem back and restart mapcapd, or revoke it"
                             : "; revoke it and create it again";
    return failure(ErrorCode::lost, "region " + region.record.name + " was in memory that is gone" + remedy);
  }
  if (region.record.state != RegionState::live) {
    return failure(ErrorCode::busy, "region " + region.record.name + " is being taken away (" +
                                        std::string(to_string(region.record.state)) + ")");
  }
  return ok();
}

Result<void> check_writable(const Region& region) {
  if (!region.closed_to_writers()) return ok();
  const std::string& name = region.record.name;
  if (region.record.published_unix_ns == 0 && !region.unwritable) {
    return failure(ErrorCode::busy,
                   "region " + name +
                       " is being published: nobody gets a writable grant meanwhile; open it ro, or "
                       "ask again");
  }
  return failure(
      ErrorCode::denied,
      "region " + name + " is published: nobody can write it any more, its owner neither; open it ro",
      {{"published", "true"}});
}

Result<void> check_renewable(const Region& region) {
  if (region.record.state == RegionState::live) return ok();
  return failure(ErrorCode::busy,
                 "region " + region.record.name + " is " + std::string(to_string(region.record.state)));
}

}  // namespace mapcap::broker
