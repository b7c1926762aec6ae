#include "broker/parts.h"

namespace mapcap::broker::parts {

schema::Result<std::unique_ptr<confine::Keeper>> keeper(const confine::KeeperOptions& options) {
  return confine::Keeper::adopt_or_start(options);
}

schema::Result<std::unique_ptr<ledger::Ledger>> ledger(const std::string& path, Loop& loop, Worker& worker) {
  return ledger::Ledger::open(path, loop, worker);
}

schema::Result<ServedPools> pools(const policy::Policy& policy, Confiners& confiners, std::uint32_t ledger) {
  return open_pools(policy, confiners, ledger);
}

}  // namespace mapcap::broker::parts
