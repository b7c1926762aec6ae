// A FUSE filesystem that nobody can name: mounted, detached, and served by the keeper.
#pragma once

#include <chrono>
#include <cstdint>

#include "schema/result.h"
#include "schema/unique_fd.h"

namespace mapcap::broker::confine {

struct FuseMount {
  schema::UniqueFd device;  ///< /dev/fuse, connected; INIT is answered. For backing ids and for cloning.
  schema::UniqueFd mount;   ///< The detached mount. Closing it dissolves the mount, open files stay.
};

/// Mounts and answers INIT. `request_timeout`: after about that long without an answer from the server the
/// kernel aborts the connection (6.14; ignored before). Errors: `unsupported`, one sentence that names what
/// this machine lacks and what to do.
schema::Result<FuseMount> mount_fuse(std::chrono::seconds request_timeout);

/// A second descriptor of the same connection. Errors: `io`.
schema::Result<schema::UniqueFd> clone_device(schema::BorrowedFd device);

/// Registers a file as backing. Positive. Errors: `unsupported` for a file that cannot be one, `io`.
schema::Result<std::int32_t> open_backing(schema::BorrowedFd device, schema::BorrowedFd file);
void close_backing(schema::BorrowedFd device, std::int32_t backing_id);

/// An O_PATH descriptor of the filesystem's root, seen from `from` (the mount, or an earlier root). Asks the
/// server: waits as long as the server does. Errors: `io`.
schema::Result<schema::UniqueFd> open_root(schema::BorrowedFd from);

}  // namespace mapcap::broker::confine
