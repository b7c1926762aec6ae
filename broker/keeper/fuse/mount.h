// A FUSE filesystem that nobody can name: mounted, detached, and served by the keeper.
#pragma once

#include <chrono>
#include <cstdint>
#include <string_view>

#include "base/result.h"
#include "mapcap/fd.h"

namespace mapcap::broker::keeper {

struct FuseMount {
  Fd device;  ///< /dev/fuse, connected; INIT is answered. For backing ids and for cloning.
  Fd mount;   ///< The detached mount. Closing it dissolves the mount, open files stay.
};

/// Mounts and answers INIT. `request_timeout`: after about that long without an answer from the server the
/// kernel aborts the connection (6.14; ignored before). Errors: `unsupported`, one sentence that names what
/// this machine lacks and what to do.
Result<FuseMount> mount_fuse(std::chrono::seconds request_timeout);

/// A second descriptor of the same connection. Errors: `io`.
Result<Fd> clone_device(BorrowedFd device);

/// Registers a file as backing. Positive. Errors: `unsupported` for a file that cannot be one, `io`.
Result<std::int32_t> open_backing(BorrowedFd device, BorrowedFd file);
void close_backing(BorrowedFd device, std::int32_t backing_id);

/// The kernel forgets that the root has something of that name, if it has: then an open node ends with its last descriptor
/// and mapping, as one that never had a name. Waits while somebody looks for a name in the root. Errors: `unavailable` when
/// the connection has ended, `io`.
Result<void> forget_name(BorrowedFd device, std::string_view name);

/// An O_PATH descriptor of the filesystem's root, seen from `from` (the mount, or an earlier root). Asks the
/// server: waits as long as the server does. Errors: `io`.
Result<Fd> open_root(BorrowedFd from);

}  // namespace mapcap::broker::keeper
