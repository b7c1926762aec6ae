// How a forked child becomes the keeper: what it must not inherit, what it must survive, what it gives up.
#pragma once

#include <span>

#include "base/result.h"
#include "mapcap/fd.h"

namespace mapcap::broker::keeper {

/// In a child that was just forked, possibly from a process with threads, with all signals blocked: closes
/// every descriptor but `keep` (standard streams become /dev/null), unmaps what was shared with the broker
/// (ledger, regions, so that neither stays held), leaves its session, ignores what a terminal or a group is
/// sent, raises the descriptor limit, and drops all capabilities. Only calls what may be called after such a
/// fork. Returns how many descriptors it may have open. Errors: `io`.
Result<std::uint64_t> become_keeper(std::span<const BorrowedFd> keep);

/// The parts of it that any child of the broker's needs which outlives its fork. leave_broker: session,
/// descriptors, shared mappings, working directory. give_up_power: capabilities, no-new-privs, signal
/// handlers; not dumpable.
Result<void> leave_broker(std::span<const BorrowedFd> keep);
Result<void> give_up_power();

/// From here on every system call that the keeper does not need kills it (seccomp). Cannot be undone.
/// Errors: `unsupported`, `io`.
Result<void> sandbox_keeper();

}  // namespace mapcap::broker::keeper
