// The process that ends a private broker, and all that is of it, when its owner has ended.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "mapcap/fd.h"

namespace mapcap::cli {

/// What it says to its owner, as one byte: the broker has ended without being asked to.
inline constexpr char kBrokerEnded = 'e';

/// A child of the caller, in a session of its own. It starts `command` with `directory`/log as its output;
/// when the other end of `owner` is shut or closed, which the owner's death does, it kills the broker and
/// whatever that started, removes the directory, and closes its end.
/// Returns its pid, for the caller to wait for. To be called by a process with one thread. Errors: `io`.
pid_t start_warden(const std::vector<std::string>& command, const std::string& directory, Fd owner);

}  // namespace mapcap::cli
