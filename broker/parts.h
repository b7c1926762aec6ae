// The parts of the broker that act on the machine, as main asks for them.
//
// mapcapd links parts.cpp, which makes the real ones. Another program of the same objects may link another:
// the tests' mapcapd_faults dies at a named step. So mapcapd itself carries no trace of that.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "broker/assembly.h"
#include "broker/keeper/keeper.h"
#include "broker/ledger/ledger.h"

namespace mapcap::broker::parts {

/// Keeper::adopt_or_start.
Result<std::unique_ptr<keeper::Keeper>> keeper(const keeper::KeeperOptions& options);
/// Ledger::open.
Result<std::unique_ptr<ledger::Ledger>> ledger(const std::string& path, Loop& loop, Worker& worker);
/// open_pools.
Result<ServedPools> pools(const policy::Policy& policy, Confiners& confiners, std::uint32_t ledger);

/// broker::refuse_descriptors.
bool refuse_descriptors(BorrowedFd socket);

/// System calls that this program makes beside mapcapd's own: none.
std::span<const char* const> more_system_calls();
/// Everything is given up, and the loop is about to run.
void serving();

}  // namespace mapcap::broker::parts
