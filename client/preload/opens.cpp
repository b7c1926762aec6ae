// Every way of opening a path, and of asking about one.
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <cstdlib>
#include <cstring>

#include "client/preload/real.h"
#include "client/preload/served.h"
#include "client/preload/status.h"

using namespace mapcap::preload;

namespace {

using OpenFunction = int(const char*, int, ...);
using OpenAtFunction = int(int, const char*, int, ...);
using Open2Function = int(const char*, int);
using OpenAt2Function = int(int, const char*, int);

/// The third argument is there only with flags that create.
#define MAPCAP_MODE_OF(flags)                                       \
  mode_t mode = 0;                                                  \
  if (((flags)&O_CREAT) != 0 || ((flags)&O_TMPFILE) == O_TMPFILE) { \
    va_list arguments;                                              \
    va_start(arguments, flags);                                     \
    mode = va_arg(arguments, mode_t);                               \
    va_end(arguments);                                              \
  }

int allowed(const Served& served, int mode) {
  if ((mode & X_OK) != 0 || ((mode & W_OK) != 0 && !served.writable)) return errno = EACCES, -1;
  return 0;
}

/// "/proc/self/fd/N" and its like, of an open region: its path, as a link to a file would have it.
const Served* linked(int dirfd, const char* path) {
  const Served* served = at_path(dirfd, path);
  if (served == nullptr || std::strcmp(path, served->path) == 0) return nullptr;
  return std::strncmp(path, "/proc/", 6) == 0 || std::strncmp(path, "/dev/", 5) == 0 ? served : nullptr;
}

ssize_t put_link(const Served& served, char* to, std::size_t room) {
  const std::size_t length = std::min(std::strlen(served.path), room);
  std::memcpy(to, served.path, length);
  return static_cast<ssize_t>(length);
}

}  // namespace

MAPCAP_SERVES int open(const char* path, int flags, ...) {
  MAPCAP_MODE_OF(flags)
  if (Served* served = at_path(AT_FDCWD, path)) return open_served(*served, flags);
  return MAPCAP_REAL_AS(OpenFunction, open)(path, flags, mode);
}
MAPCAP_SERVES int open64(const char* path, int flags, ...) {
  MAPCAP_MODE_OF(flags)
  if (Served* served = at_path(AT_FDCWD, path)) return open_served(*served, flags);
  return MAPCAP_REAL_AS(OpenFunction, open64)(path, flags, mode);
}
MAPCAP_SERVES int openat(int dirfd, const char* path, int flags, ...) {
  MAPCAP_MODE_OF(flags)
  if (Served* served = at_path(dirfd, path)) return open_served(*served, flags);
  return MAPCAP_REAL_AS(OpenAtFunction, openat)(dirfd, path, flags, mode);
}
MAPCAP_SERVES int openat64(int dirfd, const char* path, int flags, ...) {
  MAPCAP_MODE_OF(flags)
  if (Served* served = at_path(dirfd, path)) return open_served(*served, flags);
  return MAPCAP_REAL_AS(OpenAtFunction, openat64)(dirfd, path, flags, mode);
}
// What programs call that were compiled with _FORTIFY_SOURCE.
MAPCAP_SERVES int __open_2(const char* path, int flags) {
  if (Served* served = at_path(AT_FDCWD, path)) return open_served(*served, flags);
  return MAPCAP_REAL_AS(Open2Function, __open_2)(path, flags);
}
MAPCAP_SERVES int __open64_2(const char* path, int flags) {
  if (Served* served = at_path(AT_FDCWD, path)) return open_served(*served, flags);
  return MAPCAP_REAL_AS(Open2Function, __open64_2)(path, flags);
}
MAPCAP_SERVES int __openat_2(int dirfd, const char* path, int flags) {
  if (Served* served = at_path(dirfd, path)) return open_served(*served, flags);
  return MAPCAP_REAL_AS(OpenAt2Function, __openat_2)(dirfd, path, flags);
}
MAPCAP_SERVES int __openat64_2(int dirfd, const char* path, int flags) {
  if (Served* served = at_path(dirfd, path)) return open_served(*served, flags);
  return MAPCAP_REAL_AS(OpenAt2Function, __openat64_2)(dirfd, path, flags);
}
MAPCAP_SERVES int creat(const char* path, mode_t mode) {
  return ::open(path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}
MAPCAP_SERVES int creat64(const char* path, mode_t mode) {
  return ::open(path, O_CREAT | O_WRONLY | O_TRUNC | O_LARGEFILE, mode);
}

// ---- what is there

MAPCAP_SERVES int stat(const char* path, struct stat* to) {
  if (const Served* served = at_path(AT_FDCWD, path)) return tell(*served, to);
  return MAPCAP_REAL(stat)(path, to);
}
MAPCAP_SERVES int stat64(const char* path, struct stat64* to) {
  if (const Served* served = at_path(AT_FDCWD, path)) return tell(*served, to);
  return MAPCAP_REAL(stat64)(path, to);
}
MAPCAP_SERVES int lstat(const char* path, struct stat* to) {
  if (const Served* served = at_path(AT_FDCWD, path)) return tell(*served, to);
  return MAPCAP_REAL(lstat)(path, to);
}
MAPCAP_SERVES int lstat64(const char* path, struct stat64* to) {
  if (const Served* served = at_path(AT_FDCWD, path)) return tell(*served, to);
  return MAPCAP_REAL(lstat64)(path, to);
}
MAPCAP_SERVES int fstatat(int dirfd, const char* path, struct stat* to, int flags) {
  if (*path == '\0' && (flags & AT_EMPTY_PATH) != 0) return ::fstat(dirfd, to);
  if (const Served* served = at_path(dirfd, path)) return tell(*served, to);
  return MAPCAP_REAL(fstatat)(dirfd, path, to, flags);
}
MAPCAP_SERVES int fstatat64(int dirfd, const char* path, struct stat64* to, int flags) {
  if (*path == '\0' && (flags & AT_EMPTY_PATH) != 0) return ::fstat64(dirfd, to);
  if (const Served* served = at_path(dirfd, path)) return tell(*served, to);
  return MAPCAP_REAL(fstatat64)(dirfd, path, to, flags);
}
MAPCAP_SERVES int statx(int dirfd, const char* path, int flags, unsigned mask, struct statx* to) {
  const bool by_fd = path == nullptr || *path == '\0';
  const Served* served = by_fd ? find(dirfd).served : at_path(dirfd, path);
  if (served != nullptr) return tell(*served, to);
  return MAPCAP_REAL(statx)(dirfd, path, flags, mask, to);
}
MAPCAP_SERVES int fstat(int fd, struct stat* to) {
  if (const Open open = find(fd)) return tell(*open.served, to);
  return MAPCAP_REAL(fstat)(fd, to);
}
MAPCAP_SERVES int fstat64(int fd, struct stat64* to) {
  if (const Open open = find(fd)) return tell(*open.served, to);
  return MAPCAP_REAL(fstat64)(fd, to);
}
// What programs call that were linked with a C library before 2.33.
using OldStat = int(int, const char*, struct stat*);
using OldStat64 = int(int, const char*, struct stat64*);
using OldFstat = int(int, int, struct stat*);
using OldFstat64 = int(int, int, struct stat64*);
MAPCAP_SERVES int __xstat(int version, const char* path, struct stat* to) {
  if (const Served* served = at_path(AT_FDCWD, path)) return tell(*served, to);
  return MAPCAP_REAL_AS(OldStat, __xstat)(version, path, to);
}
MAPCAP_SERVES int __xstat64(int version, const char* path, struct stat64* to) {
  if (const Served* served = at_path(AT_FDCWD, path)) return tell(*served, to);
  return MAPCAP_REAL_AS(OldStat64, __xstat64)(version, path, to);
}
MAPCAP_SERVES int __lxstat(int version, const char* path, struct stat* to) {
  if (const Served* served = at_path(AT_FDCWD, path)) return tell(*served, to);
  return MAPCAP_REAL_AS(OldStat, __lxstat)(version, path, to);
}
MAPCAP_SERVES int __lxstat64(int version, const char* path, struct stat64* to) {
  if (const Served* served = at_path(AT_FDCWD, path)) return tell(*served, to);
  return MAPCAP_REAL_AS(OldStat64, __lxstat64)(version, path, to);
}
MAPCAP_SERVES int __fxstat(int version, int fd, struct stat* to) {
  if (const Open open = find(fd)) return tell(*open.served, to);
  return MAPCAP_REAL_AS(OldFstat, __fxstat)(version, fd, to);
}
MAPCAP_SERVES int __fxstat64(int version, int fd, struct stat64* to) {
  if (const Open open = find(fd)) return tell(*open.served, to);
  return MAPCAP_REAL_AS(OldFstat64, __fxstat64)(version, fd, to);
}
using OldFstatat = int(int, int, const char*, struct stat*, int);
using OldFstatat64 = int(int, int, const char*, struct stat64*, int);
MAPCAP_SERVES int __fxstatat(int version, int dirfd, const char* path, struct stat* to, int flags) {
  if (*path == '\0' && (flags & AT_EMPTY_PATH) != 0 && find(dirfd)) return ::fstat(dirfd, to);
  if (const Served* served = at_path(dirfd, path)) return tell(*served, to);
  return MAPCAP_REAL_AS(OldFstatat, __fxstatat)(version, dirfd, path, to, flags);
}
MAPCAP_SERVES int __fxstatat64(int version, int dirfd, const char* path, struct stat64* to, int flags) {
  if (*path == '\0' && (flags & AT_EMPTY_PATH) != 0 && find(dirfd)) return ::fstat64(dirfd, to);
  if (const Served* served = at_path(dirfd, path)) return tell(*served, to);
  return MAPCAP_REAL_AS(OldFstatat64, __fxstatat64)(version, dirfd, path, to, flags);
}
/// Grants have no filesystem of their own: a page is a page.
MAPCAP_SERVES int fstatfs(int fd, struct statfs* to) {
  const Open open = find(fd);
  return MAPCAP_REAL(fstatfs)(open ? open.served->fd : fd, to);
}
MAPCAP_SERVES int statfs(const char* path, struct statfs* to) {
  if (const Served* served = at_path(AT_FDCWD, path)) return MAPCAP_REAL(fstatfs)(served->fd, to);
  return MAPCAP_REAL(statfs)(path, to);
}
MAPCAP_SERVES int statfs64(const char* path, struct statfs64* to) {
  if (const Served* served = at_path(AT_FDCWD, path)) return MAPCAP_REAL(fstatfs64)(served->fd, to);
  return MAPCAP_REAL(statfs64)(path, to);
}
MAPCAP_SERVES int statvfs(const char* path, struct statvfs* to) {
  if (const Served* served = at_path(AT_FDCWD, path)) return MAPCAP_REAL(fstatvfs)(served->fd, to);
  return MAPCAP_REAL(statvfs)(path, to);
}
MAPCAP_SERVES int statvfs64(const char* path, struct statvfs64* to) {
  if (const Served* served = at_path(AT_FDCWD, path)) return MAPCAP_REAL(fstatvfs64)(served->fd, to);
  return MAPCAP_REAL(statvfs64)(path, to);
}

MAPCAP_SERVES int access(const char* path, int mode) {
  if (const Served* served = at_path(AT_FDCWD, path)) return allowed(*served, mode);
  return MAPCAP_REAL(access)(path, mode);
}
MAPCAP_SERVES int eaccess(const char* path, int mode) {
  if (const Served* served = at_path(AT_FDCWD, path)) return allowed(*served, mode);
  return MAPCAP_REAL(eaccess)(path, mode);
}
MAPCAP_SERVES int euidaccess(const char* path, int mode) {
  if (const Served* served = at_path(AT_FDCWD, path)) return allowed(*served, mode);
  return MAPCAP_REAL(euidaccess)(path, mode);
}
MAPCAP_SERVES int faccessat(int dirfd, const char* path, int mode, int flags) {
  if (const Served* served = at_path(dirfd, path)) return allowed(*served, mode);
  return MAPCAP_REAL(faccessat)(dirfd, path, mode, flags);
}

MAPCAP_SERVES char* realpath(const char* path, char* to) {
  const Served* served = at_path(AT_FDCWD, path);
  if (served == nullptr) return MAPCAP_REAL(realpath)(path, to);
  if (to == nullptr) return ::strdup(served->path);
  return std::strcpy(to, served->path);
}
MAPCAP_SERVES char* __realpath_chk(const char* path, char* to, std::size_t) {
  return ::realpath(path, to);  // Room for PATH_MAX is what the caller must have; our paths are no longer.
}
MAPCAP_SERVES char* canonicalize_file_name(const char* path) {
  return ::realpath(path, nullptr);
}
MAPCAP_SERVES ssize_t readlinkat(int dirfd, const char* path, char* to, std::size_t room) {
  if (const Served* served = linked(dirfd, path)) return put_link(*served, to, room);
  if (at_path(dirfd, path) != nullptr) return errno = EINVAL, -1;  // No link.
  return MAPCAP_REAL(readlinkat)(dirfd, path, to, room);
}
MAPCAP_SERVES ssize_t readlink(const char* path, char* to, std::size_t room) {
  return ::readlinkat(AT_FDCWD, path, to, room);
}
MAPCAP_SERVES ssize_t __readlink_chk(const char* path, char* to, std::size_t room, std::size_t) {
  return ::readlinkat(AT_FDCWD, path, to, room);
}
MAPCAP_SERVES ssize_t __readlinkat_chk(int dirfd, const char* path, char* to, std::size_t room, std::size_t) {
  return ::readlinkat(dirfd, path, to, room);
}

// ---- sizes by path: they are what they are

MAPCAP_SERVES int truncate(const char* path, off_t size) {
  const Served* served = at_path(AT_FDCWD, path);
  if (served == nullptr) return MAPCAP_REAL(truncate)(path, size);
  if (!served->writable) return errno = EACCES, -1;
  return static_cast<std::uint64_t>(size) == served->size ? 0 : (errno = EPERM, -1);
}
MAPCAP_SERVES int truncate64(const char* path, off64_t size) {
  return ::truncate(path, size);
}

// ---- older names of the same

MAPCAP_ALSO(__open, open);
MAPCAP_ALSO(__open64, open64);
MAPCAP_ALSO(__statfs, statfs);
