#include "broker/confine/reopen.h"

#include <fcntl.h>

#include <cerrno>
#include <string>

namespace mapcap::broker::confine {
namespace {

schema::Error describe(const char* call, int failed) {
  if (failed == EMFILE || failed == ENFILE) {
    return schema::error(
        schema::ErrorCode::exhausted,
        "no descriptor is left for a grant; raise the broker's limit on open files (RLIMIT_NOFILE)");
  }
  if (failed == ENXIO || failed == ENODEV) {
    return schema::error(schema::ErrorCode::unsupported, "this kind of memory cannot be opened again",
                         {{"call", call}, {"errno", std::to_string(failed)}});
  }
  return schema::io_error(call, failed);
}

}  // namespace

schema::Result<schema::UniqueFd> reopen(schema::BorrowedFd fd, schema::Access rights) {
  const std::string link = "/proc/self/fd/" + std::to_string(fd.get());
  const int mode = rights == schema::Access::read_write ? O_RDWR : O_RDONLY;
  schema::UniqueFd fresh(::open(link.c_str(), mode | O_CLOEXEC));
  if (!fresh.valid()) return describe("open of /proc/self/fd", errno);
  return fresh;
}

schema::Result<schema::UniqueFd> duplicate(schema::BorrowedFd fd) {
  schema::UniqueFd copy(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 3));
  if (!copy.valid()) return describe("fcntl(F_DUPFD_CLOEXEC)", errno);
  return copy;
}

}  // namespace mapcap::broker::confine
