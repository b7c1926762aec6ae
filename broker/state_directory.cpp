#include "broker/state_directory.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/trusted_path.h"

namespace mapcap::broker {

namespace {

/// Whoever can rename a directory above may put another in its place for the next start.
Result<void> nobody_else_decides(BorrowedFd directory, const std::string& path) {
  Result<void> trusted = check_trusted_directory(directory, path, ::geteuid());
  if (trusted) return ok();
  Failure refused = std::move(trusted).assume_error();
  refused.sentence = "the state directory " + path + ": " + refused.sentence + ", or choose another --state";
  return refused;
}

}  // namespace

Result<Fd> claim_state_directory(const std::string& path) {
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) {
    return io_error("making the state directory " + path + " (make its parent, or choose another --state)",
                    errno);
  }
  const Fd directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory.valid()) return io_error("opening the state directory " + path, errno);
  struct stat status {};
  if (::fstat(directory.get(), &status) != 0) return io_error("fstat of " + path, errno);
  if (status.st_uid != ::geteuid() || (status.st_mode & 0022) != 0) {
    return failure(ErrorCode::denied,
                   "the state directory " + path +
                       " must belong to root and be writable by nobody else: chown root and "
                       "chmod 0700 it, or choose another --state");
  }
  MAPCAP_TRY_VOID(nobody_else_decides(directory.borrow(), path));
  Fd lock(::openat(directory.get(), "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!lock.valid()) {
    return io_error("the state directory " + path + " is not writable (choose another --state)", errno);
  }
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return io_error("locking " + path + "/lock", errno);
    return failure(ErrorCode::busy, "another mapcapd uses the state directory " + path +
                                        "; stop it, or choose another --state and --socket");
  }
  return lock;
}

Result<void> make_socket_directory(const std::string& socket) {
  const std::size_t slash = socket.rfind('/');
  if (slash == std::string::npos || slash == 0) return ok();
  const std::string directory = socket.substr(0, slash);
  if (::mkdir(directory.c_str(), 0755) != 0) {
    if (errno == EEXIST) return ok();  // listen_on says whether it will do.
    return io_error("making the socket's directory " + directory, errno);
  }
  // The umask is 077, but every local user must be able to reach the socket. By descriptor: whoever owns the
  // directory above may have put something else there meanwhile, which must not be opened up.
  const Fd made(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  struct stat status {};
  if (!made.valid() || ::fstat(made.get(), &status) != 0) return io_error("opening " + directory, errno);
  if (status.st_uid != ::geteuid()) {
    return failure(ErrorCode::denied, "somebody else put his own directory where the socket's, " + directory +
                                          ", was made; choose another --socket path");
  }
  if (::fchmod(made.get(), 0755) != 0) return io_error("fchmod of " + directory, errno);
  return ok();
}

}  // namespace mapcap::broker
