// Landlock, for what the room (room.h) does not keep from a process.
//
// Landlock judges paths by the mounts above them, and what is in no tree (a keeper's filesystem, a pool's directory) it lets
// nobody open, nor can a rule for the next keeper's be added once it is in force. So opening is left to the room, which has
// nothing in it that should not be opened; Landlock adds what a room cannot say.
#pragma once

#include "base/result.h"

namespace mapcap::broker::sandbox {

/// Whether abstract sockets of others may be spoken to: a service manager may have its own there.
enum class AbstractSockets : bool { refused, allowed };

/// For this thread and those that it starts: no program of any filesystem is executed, no device, pipe or link made, no
/// mount changed, no process looked into (ptrace and all of /proc that asks for it) that is not a child; from Linux 6.7 no
/// TCP port bound or connected to, from 6.12 no abstract socket. Nothing where the kernel has no Landlock. Errors: `io`.
Result<void> restrict_by_landlock(AbstractSockets abstract_sockets);

}  // namespace mapcap::broker::sandbox
