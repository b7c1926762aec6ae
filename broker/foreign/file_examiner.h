// Looks at a file that a client passes, before the broker has it.
//
// A descriptor of a hostile FUSE filesystem must never be among the broker's own: statfs and fstat of it may
// last for ever, and so may closing it, since close waits for the filesystem's answer to FLUSH in a way that
// no signal ends (fs/fuse/file.c, fuse_flush). So a child looks at what rides on the packet while that waits
// in the client's socket, and only a regular file of a local filesystem goes on to the broker. A child that
// hangs is left behind; how many a user may have of those is limited.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "base/units.h"
#include "broker/wait/loop.h"
#include "broker/wait/task.h"
#include "broker/wait/worker.h"
#include "mapcap/fd.h"

namespace mapcap::broker {

/// A regular file of a filesystem that no process answers for.
struct PassedFile {
  Fd fd;
  ByteCount size;  ///< At least 1 byte.
};

class FileExaminer {
 public:
  FileExaminer(Loop& loop, Worker& worker) : loop_(loop), worker_(worker) {}

  /// The one descriptor on the packet that waits in `socket`, which stays there; for the user that counts as
  /// the asker. Errors: `malformed` for
  /// another number of descriptors, `unsupported` for a filesystem that is not local or does not answer
  /// within a second, `invalid` for what is no regular file or empty, `exhausted` when the user's earlier
  /// files keep too many children.
  Task<Result<PassedFile>> examine(std::uint32_t uid, BorrowedFd socket);

 private:
  struct Child {
    pid_t pid = 0;
    std::uint32_t uid = 0;
    bool done = false;  ///< Nobody waits for its answer: it may be reaped.
  };
  Task<Result<void>> make_room(std::uint32_t uid);
  void reap();

  Loop& loop_;
  Worker& worker_;
  std::vector<Child> children_;
  Loop::Timer reap_timer_;
};

}  // namespace mapcap::broker
