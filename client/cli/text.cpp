#include "client/cli/text.h"

#include <array>
#include <ctime>

#include "base/units.h"
#include "client/cli/names.h"

namespace mapcap::cli {

std::string size_text(std::uint64_t bytes) {
  return round_bytes({bytes});
}

std::string size_phrase(std::uint64_t bytes) {
  std::string text = size_text(bytes);
  const bool plain = text.back() >= '0' && text.back() <= '9';
  return plain ? text + (bytes == 1 ? " byte" : " bytes") : text;
}

std::string lifetime_text(const Lifetime& lifetime) {
  switch (lifetime.kind) {
    case LifetimeKind::connection:
      return "connection";
    case LifetimeKind::persistent:
      return "persistent";
    case LifetimeKind::ttl:
      break;
  }
  return "ttl:" + format_duration_exact(lifetime.ttl);
}

std::string lifetime_text(const RegionInfo& region) {
  std::string text = lifetime_text(region.lifetime);
  if (region.remaining) text += " (" + format_duration(*region.remaining) + " left)";
  return text;
}

std::string cache_text(const CacheStatus& cache) {
  std::string text(to_string(cache.effective));
  text += " (effective";
  if (cache.requested != cache.effective) {
    text += "; " + std::string(to_string(cache.requested)) +
            (cache.required ? " was required" : " was preferred");
  }
  return text + ")";
}

std::string durability_text(const Durability& durability) {
  std::string text(to_string(durability.granularity));
  text += " (" + std::string(to_string(durability.domain));
  if (durability.map_sync) text += ", MAP_SYNC";
  return text + ")";
}

std::string confinement_text(Confinement confinement) {
  if (confinement == Confinement::sealed) return "sealed only (not mmap-only)";
  return std::string(to_string(confinement)) + "-confined";
}

RevokeText revoke_text(const RegionInfo& region) {
  if (region.seal == SealKind::sealed) return {"zeroes", "zeroes the memory; holders never fault"};
  if (region.seal == SealKind::irrevocable) {
    return {
        "quarantines",
        "fails while somebody has it, unless the pool's policy ends them: the memory stays quarantined until "
        "the last of them lets go"};
  }
  return {"unmaps", "takes the mappings away; touching them is SIGBUS"};
}

std::string_view state_text(const RegionInfo& region) {
  if (region.state == RegionState::live && region.published_unix) return "published";
  if (region.state == RegionState::revoking && region.draining) return "draining";
  if (region.state == RegionState::draining) return "revoked";
  return to_string(region.state);
}

std::string subject_text(const QuotaSlot& slot) {
  switch (slot.subject) {
    case SubjectKind::user:
      return "user " + user_name(slot.id);
    case SubjectKind::group:
      return "group " + group_name(slot.id);
    case SubjectKind::any:
      break;
  }
  return "any user";
}

std::string percent_text(double percent) {
  return std::to_string(static_cast<std::uint64_t>(percent)) + "%";
}

std::string subject_text(const QuotaInfo& quota) {
  return quota.endpoint.empty() ? subject_text(quota.slot) : "endpoint " + quota.endpoint;
}

std::string who_text(std::uint32_t uid, const std::string& endpoint) {
  return endpoint.empty() ? user_name(uid) : "endpoint " + endpoint;
}
std::string who_text(const Holder& holder) {
  return who_text(holder.uid, holder.endpoint) + (holder.ended ? " (ended)" : "");
}

std::string place_text(const Holder& holder) {
  if (!holder.container.empty()) return "container " + holder.container;
  if (!holder.unit.empty()) return "unit " + holder.unit;
  return holder.cgroup.empty() ? "" : "cgroup " + holder.cgroup;
}

std::string time_text(std::chrono::nanoseconds since_epoch) {
  const std::time_t seconds = std::chrono::duration_cast<std::chrono::seconds>(since_epoch).count();
  std::tm local{};
  ::localtime_r(&seconds, &local);
  std::array<char, 32> text{};
  const std::size_t length = std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S", &local);
  return {text.data(), length};
}

}  // namespace mapcap::cli
