// `mapcapd --check-ledger`: what opening would find, without changing anything. `--forget-damaged`: lets go
// of what opening keeps.
#include <cinttypes>
#include <cstdio>
#include <filesystem>

#include "broker/ledger/medium/medium_file.h"
#include "broker/ledger/recovery.h"

namespace mapcap::broker::ledger {

Result<bool> check(const std::string& path, std::FILE* out) {
  MAPCAP_TRY(const std::shared_ptr<Medium> medium, open_file_read_only(path));
  return check(*medium, out);
}

Result<std::uint64_t> forget_damaged(const std::string& path) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored))
    return failure(ErrorCode::not_found, "there is no ledger " + path);
  MAPCAP_TRY(const std::shared_ptr<Medium> medium, open_or_create_file(path));
  return forget_damaged(*medium);
}

Result<std::uint64_t> forget_damaged(Medium& medium) {
  MAPCAP_TRY(const Reading reading, read(medium));
  for (const std::uint32_t slot : reading.scan.damaged) {
    const Range word{kSlotsOffset + std::size_t{slot} * kSlotSize, sizeof(std::uint64_t)};
    medium.store_word(word.offset, 0);
    medium.flush(word, Step::recovery_release);
  }
  MAPCAP_TRY_VOID(settle(medium, Step::recovery_release));
  return reading.scan.damaged.size();
}

Result<bool> check(Medium& medium, std::FILE* out) {
  MAPCAP_TRY(const Reading reading, read(medium));
  for (std::size_t copy = 0; copy < reading.intact.size(); ++copy) {
    if (reading.intact[copy]) continue;
    std::fprintf(out, "superblock %zu: damaged or outdated; opening would write it again from the other\n",
                 copy);
  }
  const auto version_at = [&](std::uint32_t slot) {
    return load64(medium.bytes(), kSlotsOffset + std::size_t{slot} * kSlotSize + 16);
  };
  const auto id_at = [&](std::uint32_t slot) {
    return load64(medium.bytes(), kSlotsOffset + std::size_t{slot} * kSlotSize + 8);
  };
  std::size_t torn = reading.scan.damaged.size() - reading.unreadable.size();
  for (std::size_t i = 0; i < torn; ++i) {
    const std::uint32_t slot = reading.scan.damaged[i];
    std::fprintf(out,
                 "slot %" PRIu32 ": damaged (wrong checksum, id field %" PRIu64 "); opening would keep it\n",
                 slot, id_at(slot));
  }
  for (const Reading::Unreadable& unreadable : reading.unreadable) {
    std::fprintf(out, "slot %" PRIu32 ": damaged (%s); opening would keep it\n", unreadable.slot,
                 unreadable.why.c_str());
  }
  for (std::uint32_t slot : reading.scan.stale) {
    std::fprintf(out,
                 "slot %" PRIu32 ": version %" PRIu64 " of record %" PRIu64
                 " is superseded; opening would free it\n",
                 slot, version_at(slot), id_at(slot));
  }
  for (std::uint32_t slot : reading.scan.tombstones) {
    std::fprintf(out, "slot %" PRIu32 ": record %" PRIu64 " is erased; opening would free it\n", slot,
                 id_at(slot));
  }
  const std::size_t damaged = reading.scan.damaged.size();
  std::fprintf(out,
               "%s: layout %u, %" PRIu32
               " slots, %zu regions, %zu quotas, %zu endpoints, "
               "%zu superseded or erased, %zu damaged\n",
               std::string(medium.name()).c_str(), kLayoutVersion, reading.scan.capacity,
               reading.regions.size(), reading.quotas.size(), reading.endpoints.size(),
               reading.scan.stale.size() + reading.scan.tombstones.size(), damaged);
  return damaged == 0 && reading.intact[0] && reading.intact[1];
}

}  // namespace mapcap::broker::ledger
