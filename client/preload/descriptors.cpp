// Copying and closing descriptors: a copy of an open region is one, and the grants themselves stay.
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstdint>

#include "client/preload/real.h"
#include "client/preload/served.h"

using namespace mapcap::preload;

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2U)
#endif

MAPCAP_SERVES int dup(int fd) {
  const int copy = MAPCAP_REAL(dup)(fd);
  if (copy >= 0) copied(fd, copy);
  return copy;
}
MAPCAP_SERVES int dup2(int fd, int to) {
  if (fd != to && is_ours(to)) return errno = EBADF, -1;
  const int copy = MAPCAP_REAL(dup2)(fd, to);
  if (copy >= 0) copied(fd, copy);
  return copy;
}
MAPCAP_SERVES int dup3(int fd, int to, int flags) {
  if (fd != to && is_ours(to)) return errno = EBADF, -1;
  const int copy = MAPCAP_REAL(dup3)(fd, to, flags);
  if (copy >= 0) copied(fd, copy);
  return copy;
}

namespace {

/// Every command's argument fits a pointer.
using Fcntl = int(int, int, ...);

int control(Fcntl* real, int fd, int command, void* argument) {
  // Whoever marks all it has to be closed does not mean what it does not know of.
  if (command == F_SETFD && is_ours(fd)) return 0;
  if (command == F_GETFL) {
    const int flags = real(fd, command, argument);
    const Open open = find(fd);
    if (flags < 0 || !open) return flags;
    const int access = !open.writable ? O_RDONLY : open.readable ? O_RDWR : O_WRONLY;
    return (flags & ~(O_ACCMODE | O_APPEND)) | access | (open.append ? O_APPEND : 0);
  }
  if (command == F_SETFL && find(fd)) {
    // The other flags would be those of all copies of the grant, and mean nothing to memory.
    set_append(fd, (static_cast<int>(reinterpret_cast<std::intptr_t>(argument)) & O_APPEND) != 0);
    return 0;
  }
  const int result = real(fd, command, argument);
  if (result >= 0 && (command == F_DUPFD || command == F_DUPFD_CLOEXEC)) copied(fd, result);
  return result;
}

}  // namespace

MAPCAP_SERVES int fcntl(int fd, int command, ...) {
  va_list arguments;
  va_start(arguments, command);
  void* argument = va_arg(arguments, void*);
  va_end(arguments);
  return control(MAPCAP_REAL_AS(Fcntl, fcntl), fd, command, argument);
}
MAPCAP_SERVES int fcntl64(int fd, int command, ...) {
  va_list arguments;
  va_start(arguments, command);
  void* argument = va_arg(arguments, void*);
  va_end(arguments);
  return control(MAPCAP_REAL_AS(Fcntl, fcntl64), fd, command, argument);
}

MAPCAP_SERVES int close(int fd) {
  if (is_ours(fd)) return errno = EBADF, -1;  // As if it were not there.
  closed(fd);
  return MAPCAP_REAL(close)(fd);
}

MAPCAP_SERVES int close_range(unsigned first, unsigned last, int flags) {
  if (first > last) return errno = EINVAL, -1;
  // What is ours cuts the range into pieces.
  auto* real = MAPCAP_REAL(close_range);
  for (std::size_t i = 0; i <= ours(); ++i) {
    const unsigned barrier = i < ours() ? static_cast<unsigned>(our(i)) : ~0U;
    if (i < ours() && barrier < first) continue;
    const unsigned end = i < ours() ? std::min(last, barrier == 0 ? 0 : barrier - 1) : last;
    if (first <= end && !(i < ours() && barrier == first)) {
      if ((static_cast<unsigned>(flags) & CLOSE_RANGE_CLOEXEC) == 0) {
        for (unsigned fd = first; fd <= std::min(end, 65535U); ++fd) closed(static_cast<int>(fd));
      }
      const int failed = real(first, end, flags);
      if (failed != 0) return failed;
    }
    if (i == ours() || barrier >= last) return 0;
    first = barrier + 1;
  }
  return 0;
}
MAPCAP_SERVES void closefrom(int first) {
  ::close_range(static_cast<unsigned>(std::max(first, 0)), ~0U, 0);
}

// ---- older names of the same

MAPCAP_ALSO(__close, close);
MAPCAP_ALSO(__dup2, dup2);
MAPCAP_ALSO(__fcntl, fcntl);
