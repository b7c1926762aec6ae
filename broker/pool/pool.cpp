#include "broker/pool/pool.h"

#include <array>
#include <cinttypes>
#include <cstdio>

namespace mapcap::broker::pool {

std::string tag_of(std::uint32_t ledger) {
  std::array<char, 9> digits{};
  std::snprintf(digits.data(), digits.size(), "%08" PRIx32, ledger);
  return digits.data();
}

Failure nobodys(const std::string& place, std::string_view what, const std::vector<std::string>& names) {
  return failure(ErrorCode::exists,
                 place + " has " + std::to_string(names.size()) + " " + std::string(what) +
                     " of regions that another ledger knows or none does any more, such as " + names.front() +
                     "; start mapcapd with the state directory of that ledger, or remove them if "
                     "nobody needs them");
}

void verify_cache(const CacheReader& reader, BorrowedFd file, Facts& facts) {
  if (!reader) return;
  const Result<CacheMode> mode = reader(file);
  if (!mode) return;
  facts.cache_modes = {mode.value()};
  facts.cache_verified = true;
}

}  // namespace mapcap::broker::pool
