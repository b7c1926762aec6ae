#include "broker/pool/pool.h"

namespace mapcap::broker::pool {

void verify_cache(const CacheReader& reader, schema::BorrowedFd file, Facts& facts) {
  if (!reader) return;
  const schema::Result<schema::CacheMode> mode = reader(file);
  if (!mode) return;
  facts.cache_modes = {mode.value()};
  facts.cache_verified = true;
}

}  // namespace mapcap::broker::pool
