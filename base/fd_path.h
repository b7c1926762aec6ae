// The name in procfs by which an open file can be opened or linked again.
#pragma once

#include <string>

#include "mapcap/fd.h"

namespace mapcap {

/// "/proc/self/fd/N" (proc_pid_fd(5)): whatever the file is called by now, and when it has no name at all. Longer paths
/// than a socket's may be reached through it too.
inline std::string fd_path(BorrowedFd fd) {
  return "/proc/self/fd/" + std::to_string(fd.get());
}
inline std::string fd_path(BorrowedFd directory, const std::string& name) {
  return fd_path(directory) + "/" + name;
}

}  // namespace mapcap
