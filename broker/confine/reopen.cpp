#include "broker/confine/reopen.h"

#include <fcntl.h>

#include <cerrno>
#include <string>

#include "base/fd_path.h"

namespace mapcap::broker::confine {
namespace {

Failure describe(const char* call, int failed) {
  if (failed == EMFILE || failed == ENFILE) {
    return failure(
        ErrorCode::exhausted,
        "no descriptor is left for a grant; raise the broker's limit on open files (RLIMIT_NOFILE)");
  }
  if (failed == ENXIO || failed == ENODEV) {
    return failure(ErrorCode::unsupported, "this kind of memory cannot be opened again",
                   {{"call", call}, {"errno", std::to_string(failed)}});
  }
  return io_error(call, failed);
}

}  // namespace

Result<Fd> reopen(BorrowedFd fd, Access rights) {
  const std::string link = fd_path(fd);
  const int mode = rights == Access::read_write ? O_RDWR : O_RDONLY;
  Fd fresh(::open(link.c_str(), mode | O_CLOEXEC));
  if (!fresh.valid()) return describe("open of /proc/self/fd", errno);
  return fresh;
}

Result<Fd> duplicate(BorrowedFd fd) {
  Fd copy(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 3));
  if (!copy.valid()) return describe("fcntl(F_DUPFD_CLOEXEC)", errno);
  return copy;
}

}  // namespace mapcap::broker::confine
