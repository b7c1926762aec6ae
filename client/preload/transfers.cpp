// Reading and writing an open region, whose descriptor the kernel lets nobody read or write.
#include <fcntl.h>
#include <limits.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <optional>

#include "client/preload/real.h"
#include "client/preload/served.h"

using namespace mapcap::preload;

namespace {

/// Moves the position by what was done. Two threads that read at once get different bytes, as from a file: each
/// takes its part before it copies, and gives back what it could not have.
template <typename Transfer>
ssize_t at_position(const Open& open, std::size_t length, Transfer transfer) {
  if (open.append) return transfer(open.served->size);  // There is nothing behind the end.
  const std::uint64_t size = open.served->size;
  std::uint64_t at = open.position->load();
  std::uint64_t mine = 0;
  do {
    mine = at >= size ? 0 : std::min<std::uint64_t>(std::min<std::size_t>(length, SSIZE_MAX), size - at);
  } while (!open.position->compare_exchange_weak(at, at + mine));
  const ssize_t done = transfer(at);
  const std::uint64_t moved = done > 0 ? static_cast<std::uint64_t>(done) : 0;
  if (moved != mine) open.position->fetch_sub(mine - moved);
  return done;
}

/// Bytes of all parts, or nothing with errno where the kernel would refuse them.
std::optional<std::size_t> length_of(const iovec* parts, int count) {
  std::size_t sum = 0;
  for (int i = 0; i < count; ++i) {
    if (__builtin_add_overflow(sum, parts[i].iov_len, &sum) || sum > SSIZE_MAX) count = -1;
  }
  if (count >= 0 && count <= IOV_MAX) return sum;
  errno = EINVAL;
  return std::nullopt;
}

/// One part after the other, until one is not transferred whole. `transfer` is read_at or write_at.
template <typename Transfer>
ssize_t transfer_all(const Open& open, Transfer transfer, const iovec* parts, int count, std::uint64_t at) {
  ssize_t sum = 0;
  for (int i = 0; i < count; ++i) {
    const ssize_t done = transfer(open, parts[i].iov_base, parts[i].iov_len, at);
    if (done < 0) return sum > 0 ? sum : -1;
    sum += done;
    at += static_cast<std::uint64_t>(done);
    if (static_cast<std::size_t>(done) < parts[i].iov_len) break;
  }
  return sum;
}
ssize_t read_all(const Open& open, const iovec* parts, int count, std::uint64_t at) {
  return transfer_all(open, read_at, parts, count, at);
}
ssize_t write_all(const Open& open, const iovec* parts, int count, std::uint64_t at) {
  return transfer_all(open, write_at, parts, count, at);
}

bool refused(off64_t offset) {
  if (offset >= 0) return false;
  errno = EINVAL;
  return true;
}

}  // namespace

MAPCAP_SERVES ssize_t read(int fd, void* to, std::size_t length) {
  const Open open = find(fd);
  if (!open) return MAPCAP_REAL(read)(fd, to, length);
  return at_position(open, length, [&](std::uint64_t at) { return read_at(open, to, length, at); });
}
MAPCAP_SERVES ssize_t __read_chk(int fd, void* to, std::size_t length, std::size_t) {
  return ::read(fd, to, length);
}
MAPCAP_SERVES ssize_t pread64(int fd, void* to, std::size_t length, off64_t offset) {
  const Open open = find(fd);
  if (!open) return MAPCAP_REAL(pread64)(fd, to, length, offset);
  return refused(offset) ? -1 : read_at(open, to, length, static_cast<std::uint64_t>(offset));
}
MAPCAP_SERVES ssize_t pread(int fd, void* to, std::size_t length, off_t offset) {
  return ::pread64(fd, to, length, offset);
}
MAPCAP_SERVES ssize_t __pread_chk(int fd, void* to, std::size_t length, off_t offset, std::size_t) {
  return ::pread64(fd, to, length, offset);
}
MAPCAP_SERVES ssize_t __pread64_chk(int fd, void* to, std::size_t length, off64_t offset, std::size_t) {
  return ::pread64(fd, to, length, offset);
}
MAPCAP_SERVES ssize_t readv(int fd, const iovec* parts, int count) {
  const Open open = find(fd);
  if (!open) return MAPCAP_REAL(readv)(fd, parts, count);
  const auto length = length_of(parts, count);
  if (!length) return -1;
  return at_position(open, *length, [&](std::uint64_t at) { return read_all(open, parts, count, at); });
}
MAPCAP_SERVES ssize_t preadv64(int fd, const iovec* parts, int count, off64_t offset) {
  const Open open = find(fd);
  if (!open) return MAPCAP_REAL(preadv64)(fd, parts, count, offset);
  return refused(offset) || !length_of(parts, count)
             ? -1
             : read_all(open, parts, count, static_cast<std::uint64_t>(offset));
}
MAPCAP_SERVES ssize_t preadv(int fd, const iovec* parts, int count, off_t offset) {
  return ::preadv64(fd, parts, count, offset);
}
MAPCAP_SERVES ssize_t preadv64v2(int fd, const iovec* parts, int count, off64_t offset, int flags) {
  const Open open = find(fd);
  if (!open) return MAPCAP_REAL(preadv64v2)(fd, parts, count, offset, flags);
  return offset == -1 ? ::readv(fd, parts, count) : ::preadv64(fd, parts, count, offset);
}
MAPCAP_SERVES ssize_t preadv2(int fd, const iovec* parts, int count, off_t offset, int flags) {
  return ::preadv64v2(fd, parts, count, offset, flags);
}

MAPCAP_SERVES ssize_t write(int fd, const void* from, std::size_t length) {
  const Open open = find(fd);
  if (!open) return MAPCAP_REAL(write)(fd, from, length);
  return at_position(open, length, [&](std::uint64_t at) { return write_at(open, from, length, at); });
}
MAPCAP_SERVES ssize_t pwrite64(int fd, const void* from, std::size_t length, off64_t offset) {
  const Open open = find(fd);
  if (!open) return MAPCAP_REAL(pwrite64)(fd, from, length, offset);
  return refused(offset) ? -1 : write_at(open, from, length, static_cast<std::uint64_t>(offset));
}
MAPCAP_SERVES ssize_t pwrite(int fd, const void* from, std::size_t length, off_t offset) {
  return ::pwrite64(fd, from, length, offset);
}
MAPCAP_SERVES ssize_t writev(int fd, const iovec* parts, int count) {
  const Open open = find(fd);
  if (!open) return MAPCAP_REAL(writev)(fd, parts, count);
  const auto length = length_of(parts, count);
  if (!length) return -1;
  return at_position(open, *length, [&](std::uint64_t at) { return write_all(open, parts, count, at); });
}
MAPCAP_SERVES ssize_t pwritev64(int fd, const iovec* parts, int count, off64_t offset) {
  const Open open = find(fd);
  if (!open) return MAPCAP_REAL(pwritev64)(fd, parts, count, offset);
  return refused(offset) || !length_of(parts, count)
             ? -1
             : write_all(open, parts, count, static_cast<std::uint64_t>(offset));
}
MAPCAP_SERVES ssize_t pwritev(int fd, const iovec* parts, int count, off_t offset) {
  return ::pwritev64(fd, parts, count, offset);
}
MAPCAP_SERVES ssize_t pwritev64v2(int fd, const iovec* parts, int count, off64_t offset, int flags) {
  const Open open = find(fd);
  if (!open) return MAPCAP_REAL(pwritev64v2)(fd, parts, count, offset, flags);
  return offset == -1 ? ::writev(fd, parts, count) : ::pwritev64(fd, parts, count, offset);
}
MAPCAP_SERVES ssize_t pwritev2(int fd, const iovec* parts, int count, off_t offset, int flags) {
  return ::pwritev64v2(fd, parts, count, offset, flags);
}

MAPCAP_SERVES off64_t lseek64(int fd, off64_t offset, int whence) {
  const Open open = find(fd);
  if (!open) return MAPCAP_REAL(lseek64)(fd, offset, whence);
  const auto size = static_cast<off64_t>(open.served->size);
  off64_t from = 0;
  switch (whence) {
    case SEEK_SET:
      break;
    case SEEK_CUR:
      from = static_cast<off64_t>(open.position->load());
      break;
    case SEEK_END:
      from = size;
      break;
    case SEEK_DATA:
    case SEEK_HOLE:
      // All of it is data.
      if (offset < 0 || offset >= size) return errno = ENXIO, -1;
      if (whence == SEEK_HOLE) offset = size;
      break;
    default:
      return errno = EINVAL, -1;
  }
  off64_t to = 0;
  if (__builtin_add_overflow(from, offset, &to)) return errno = EOVERFLOW, -1;
  if (to < 0) return errno = EINVAL, -1;
  *open.position = static_cast<std::uint64_t>(to);
  return to;
}
MAPCAP_SERVES off_t lseek(int fd, off_t offset, int whence) {
  return ::lseek64(fd, offset, whence);
}

// ---- the kernel moves no bytes of a grant: the error that makes programs read and write instead

MAPCAP_SERVES ssize_t sendfile64(int to, int from, off64_t* offset, std::size_t length) {
  if (find(to) || find(from)) return errno = EINVAL, -1;
  return MAPCAP_REAL(sendfile64)(to, from, offset, length);
}
MAPCAP_SERVES ssize_t sendfile(int to, int from, off_t* offset, std::size_t length) {
  return ::sendfile64(to, from, offset, length);
}
MAPCAP_SERVES ssize_t copy_file_range(int from, off64_t* from_offset, int to, off64_t* to_offset,
                                      std::size_t length, unsigned flags) {
  if (find(to) || find(from)) return errno = EXDEV, -1;
  return MAPCAP_REAL(copy_file_range)(from, from_offset, to, to_offset, length, flags);
}
MAPCAP_SERVES ssize_t splice(int from, off64_t* from_offset, int to, off64_t* to_offset, std::size_t length,
                             unsigned flags) {
  if (find(to) || find(from)) return errno = EINVAL, -1;
  return MAPCAP_REAL(splice)(from, from_offset, to, to_offset, length, flags);
}

// ---- sizes, and what makes stores durable

MAPCAP_SERVES int ftruncate64(int fd, off64_t size) {
  const Open open = find(fd);
  if (!open) return MAPCAP_REAL(ftruncate64)(fd, size);
  if (!open.writable || size < 0) return errno = EINVAL, -1;
  return static_cast<std::uint64_t>(size) == open.served->size ? 0 : (errno = EPERM, -1);
}
MAPCAP_SERVES int ftruncate(int fd, off_t size) {
  return ::ftruncate64(fd, size);
}

namespace {

int allocate(const Open& open, int mode, off64_t offset, off64_t length) {
  if (!open.writable) return EBADF;
  if (offset < 0 || length <= 0) return EINVAL;
  if (mode != 0) return EOPNOTSUPP;
  // What lies within the region is there already, and there is no more.
  const auto size = static_cast<off64_t>(open.served->size);
  return offset <= size && length <= size - offset ? 0 : ENOSPC;
}

}  // namespace

MAPCAP_SERVES int fallocate64(int fd, int mode, off64_t offset, off64_t length) {
  const Open open = find(fd);
  if (!open) return MAPCAP_REAL(fallocate64)(fd, mode, offset, length);
  const int error = allocate(open, mode, offset, length);
  return error == 0 ? 0 : (errno = error, -1);
}
MAPCAP_SERVES int fallocate(int fd, int mode, off_t offset, off_t length) {
  return ::fallocate64(fd, mode, offset, length);
}
MAPCAP_SERVES int posix_fallocate64(int fd, off64_t offset, off64_t length) {
  const Open open = find(fd);
  return open ? allocate(open, 0, offset, length) : MAPCAP_REAL(posix_fallocate64)(fd, offset, length);
}
MAPCAP_SERVES int posix_fallocate(int fd, off_t offset, off_t length) {
  return ::posix_fallocate64(fd, offset, length);
}
MAPCAP_SERVES int fsync(int fd) {
  const Open open = find(fd);
  if (!open) return MAPCAP_REAL(fsync)(fd);
  return sync_all(open);
}
MAPCAP_SERVES int fdatasync(int fd) {
  const Open open = find(fd);
  if (!open) return MAPCAP_REAL(fdatasync)(fd);
  return sync_all(open);
}
MAPCAP_SERVES int sync_file_range(int fd, off64_t offset, off64_t length, unsigned flags) {
  const Open open = find(fd);
  if (!open) return MAPCAP_REAL(sync_file_range)(fd, offset, length, flags);
  return sync_all(open);
}
MAPCAP_SERVES int posix_fadvise64(int fd, off64_t offset, off64_t length, int advice) {
  return find(fd) ? 0 : MAPCAP_REAL(posix_fadvise64)(fd, offset, length, advice);
}
MAPCAP_SERVES int posix_fadvise(int fd, off_t offset, off_t length, int advice) {
  return ::posix_fadvise64(fd, offset, length, advice);
}
MAPCAP_SERVES ssize_t readahead(int fd, off64_t offset, std::size_t length) {
  return find(fd) ? 0 : MAPCAP_REAL(readahead)(fd, offset, length);
}

// ---- older names of the same

MAPCAP_ALSO(__read, read);
MAPCAP_ALSO(__write, write);
MAPCAP_ALSO(__pread64, pread64);
MAPCAP_ALSO(__pwrite64, pwrite64);
MAPCAP_ALSO(__lseek, lseek);
