// Starting processes in ways that the C library keeps to itself.
#include <fcntl.h>
#include <spawn.h>
#include <unistd.h>

#include <cerrno>

#include "client/preload/real.h"
#include "client/preload/served.h"

using namespace mapcap::preload;

/// What the child of a vfork closes and copies before it executes something would be closed and copied in its parent's
/// table, too: they share memory. So it is a fork, as POSIX allows.
MAPCAP_SERVES pid_t vfork() noexcept {
  return ::fork();
}

/// The C library opens the path by itself, in the child. A copy of the grant is what that would have given.
MAPCAP_SERVES int posix_spawn_file_actions_addopen(posix_spawn_file_actions_t* actions, int fd,
                                                   const char* path, int flags, mode_t mode) noexcept {
  const Served* served = at_path(AT_FDCWD, path);
  if (served == nullptr) return MAPCAP_REAL(posix_spawn_file_actions_addopen)(actions, fd, path, flags, mode);
  if ((flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL)) return EEXIST;
  if ((flags & O_ACCMODE) != O_RDONLY && !served->writable) return EACCES;
  return ::posix_spawn_file_actions_adddup2(actions, served->fd, fd);
}
