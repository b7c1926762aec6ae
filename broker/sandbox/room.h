// A room of its own: a mount namespace in which there is nothing but what the broker needs.
//
// What is not there cannot be opened, by uid 0 neither, on every kernel; nor can a socket be connected to that trusts uid 0
// (the system bus, the service manager's), which Landlock has no say in. Without CAP_SYS_ADMIN and CAP_SYS_CHROOT nobody
// leaves it, as long as no descriptor of a directory outside is open: ".." leads from there to the root of all.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace mapcap::broker::sandbox {

/// Under the same names as outside. What does not exist is left out.
struct Room {
  std::vector<std::string> writable;        ///< Directories, with what is mounted in them.
  std::vector<std::string> readable;        ///< Directories and files, without.
  std::vector<std::string> readable_trees;  ///< Directories, with.
  std::vector<std::string> sockets;         ///< Sockets and devices.
};

/// What every broker reads of the kernel: /proc and /sys, without what is mounted there but the cgroups; and /dev/null.
Room with_the_kernel();

/// Enters it, for good. The working directory keeps its name where it is in the room, and is "/" elsewhere. Before any
/// thread exists: others stay where they are. Needs CAP_SYS_ADMIN. Linux 5.12. Errors: `io`, `unsupported`.
Result<void> enter_room(const Room& room);

}  // namespace mapcap::broker::sandbox
