// Values as people read them.
#pragma once

#include <string>
#include <string_view>

#include "mapcap/types.h"

namespace mapcap::cli {

/// To a tenth of the largest unit: "64M", "11.8G", "1023". The exact number is in --json and in `show`.
std::string size_text(std::uint64_t bytes);
/// The same in a sentence: "64M", "1023 bytes".
std::string size_phrase(std::uint64_t bytes);
/// "connection", "persistent", "ttl:1h".
std::string lifetime_text(const Lifetime& lifetime);
/// The same with what is left: "ttl:1h (42m left)".
std::string lifetime_text(const RegionInfo& region);
/// "wb (effective)", "wb (effective; wt was preferred)".
std::string cache_text(const CacheStatus& cache);
/// "none (volatile)", "cache-line (memory-controller)", "cache-line (memory-controller, MAP_SYNC)".
std::string durability_text(const Durability& durability);
/// "clone-confined", "sealed only: not mmap-only".
std::string confinement_text(Confinement confinement);
/// What a revoke does to holders, in a word ("zeroes", "unmaps", "waits") and in a sentence.
struct RevokeText {
  std::string word;
  std::string sentence;
};
RevokeText revoke_text(const RegionInfo& region);
/// "live", "published", "draining" while holders may finish, "revoked" when nobody can read it any more and somebody still has its
/// pages.
std::string_view state_text(const RegionInfo& region);
/// "user alice", "group dev", "any user".
std::string subject_text(const QuotaSlot& slot);
/// "80%", rounded down.
std::string percent_text(double percent);
/// The same, and "endpoint reader-1".
std::string subject_text(const QuotaInfo& quota);
/// "alice", "endpoint reader-1": who owns or holds something.
std::string who_text(std::uint32_t uid, const std::string& endpoint);
/// The same, and "endpoint reader-1 (ended)".
std::string who_text(const Holder& holder);
/// "container 0123456789ab", "unit a.service", "cgroup /x": where a holder ran; empty: not known.
std::string place_text(const Holder& holder);
/// "2026-11-22 22:03:52".
std::string time_text(std::chrono::nanoseconds since_epoch);

}  // namespace mapcap::cli
