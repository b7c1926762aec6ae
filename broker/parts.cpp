#include "broker/parts.h"

#include "broker/door/client_socket.h"

namespace mapcap::broker::parts {

Result<std::unique_ptr<keeper::Keeper>> keeper(const keeper::KeeperOptions& options) {
  return keeper::Keeper::adopt_or_start(options);
}

Result<std::unique_ptr<ledger::Ledger>> ledger(const std::string& path, Loop& loop, Worker& worker) {
  return ledger::Ledger::open(path, loop, worker);
}

Result<ServedPools> pools(const policy::Policy& policy, Confiners& confiners, std::uint32_t ledger) {
  return open_pools(policy, confiners, ledger);
}

bool refuse_descriptors(BorrowedFd socket) {
  return broker::refuse_descriptors(socket);
}

std::span<const char* const> more_system_calls() {
  return {};
}

void serving() {}

}  // namespace mapcap::broker::parts
