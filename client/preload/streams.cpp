// fopen and its like. The C library reads its streams by calls of its own that nobody can stand in for, so a
// stream of a region is one with functions (fopencookie(3)), and fileno() knows its descriptor.
#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>

#include "client/preload/real.h"
#include "client/preload/served.h"

using namespace mapcap::preload;

namespace {

void* cookie_of(int fd) {
  return reinterpret_cast<void*>(static_cast<std::intptr_t>(fd));
}
int fd_of(void* cookie) {
  return static_cast<int>(reinterpret_cast<std::intptr_t>(cookie));
}

ssize_t read_stream(void* cookie, char* to, std::size_t length) {
  return ::read(fd_of(cookie), to, length);
}
ssize_t write_stream(void* cookie, const char* from, std::size_t length) {
  const ssize_t done = ::write(fd_of(cookie), from, length);
  return done < 0 ? 0 : done;  // As fopencookie wants it.
}
int seek_stream(void* cookie, off64_t* offset, int whence) {
  const off64_t at = ::lseek64(fd_of(cookie), *offset, whence);
  if (at < 0) return -1;
  *offset = at;
  return 0;
}

/// Streams of regions, and their descriptors. A program has few at a time; what finds no room has no
/// fileno().
struct Streams {
  static constexpr std::size_t kMost = 1024;
  std::atomic<FILE*> stream[kMost];
  std::atomic<int> fd[kMost];

  void add(FILE* file, int number) {
    for (std::size_t i = 0; i < kMost; ++i) {
      FILE* free = nullptr;
      if (!stream[i].compare_exchange_strong(free, file)) continue;
      fd[i] = number;
      return;
    }
  }
  int find(FILE* file) const {
    for (std::size_t i = 0; i < kMost; ++i) {
      if (stream[i].load() == file) return fd[i];
    }
    return -1;
  }
  void remove(int number) {
    for (std::size_t i = 0; i < kMost; ++i) {
      if (stream[i].load() != nullptr && fd[i] == number) stream[i] = nullptr;
    }
  }
};
Streams streams;

int close_stream(void* cookie) {
  streams.remove(fd_of(cookie));
  return ::close(fd_of(cookie));
}

/// -1 for a mode that fopen does not know.
int flags_of(const char* mode) {
  int flags = *mode == 'r'   ? O_RDONLY
              : *mode == 'w' ? O_WRONLY | O_CREAT | O_TRUNC
              : *mode == 'a' ? O_WRONLY | O_CREAT | O_APPEND
                             : -1;
  if (flags < 0) return -1;
  for (const char* letter = mode + 1; *letter != '\0' && *letter != ','; ++letter) {
    if (*letter == '+') flags = (flags & ~O_ACCMODE) | O_RDWR;
    if (*letter == 'e') flags |= O_CLOEXEC;
    if (*letter == 'x') flags |= O_EXCL;
  }
  return flags;
}

FILE* stream_of(int fd, const char* mode) {
  FILE* file = ::fopencookie(cookie_of(fd), mode, {read_stream, write_stream, seek_stream, close_stream});
  if (file != nullptr) streams.add(file, fd);
  return file;
}

FILE* open_stream(Served& served, const char* mode) {
  const int flags = flags_of(mode);
  if (flags < 0) return errno = EINVAL, nullptr;
  const int fd = open_served(served, flags);
  if (fd < 0) return nullptr;
  FILE* file = stream_of(fd, mode);
  if (file == nullptr) ::close(fd);
  return file;
}

}  // namespace

MAPCAP_SERVES FILE* fopen(const char* path, const char* mode) {
  if (Served* served = at_path(AT_FDCWD, path)) return open_stream(*served, mode);
  return MAPCAP_REAL(fopen)(path, mode);
}
MAPCAP_SERVES FILE* fopen64(const char* path, const char* mode) {
  if (Served* served = at_path(AT_FDCWD, path)) return open_stream(*served, mode);
  return MAPCAP_REAL(fopen64)(path, mode);
}
MAPCAP_SERVES FILE* fdopen(int fd, const char* mode) {
  return find(fd) ? stream_of(fd, mode) : MAPCAP_REAL(fdopen)(fd, mode);
}
/// Only a stream that was made with functions can read a region, and this one was not: its descriptor cannot
/// be exchanged.
MAPCAP_SERVES FILE* freopen(const char* path, const char* mode, FILE* file) {
  if (path == nullptr || at_path(AT_FDCWD, path) == nullptr) return MAPCAP_REAL(freopen)(path, mode, file);
  errno = EOPNOTSUPP;
  return nullptr;
}
MAPCAP_SERVES FILE* freopen64(const char* path, const char* mode, FILE* file) {
  if (path == nullptr || at_path(AT_FDCWD, path) == nullptr) return MAPCAP_REAL(freopen64)(path, mode, file);
  errno = EOPNOTSUPP;
  return nullptr;
}
MAPCAP_SERVES int fileno(FILE* file) noexcept {
  const int fd = streams.find(file);
  return fd >= 0 ? fd : MAPCAP_REAL(fileno)(file);
}
MAPCAP_SERVES int fileno_unlocked(FILE* file) noexcept {
  const int fd = streams.find(file);
  return fd >= 0 ? fd : MAPCAP_REAL(fileno_unlocked)(file);
}
