// fopen and its like. The C library reads its streams by calls of its own that nobody can stand in for, so a
// stream of a region is one with functions (fopencookie(3)), and fileno() knows its descriptor. The three standard
// streams are variables of the C library's, which a program reads whenever it uses them: they are exchanged for such a
// stream where the program was started with a region as its standard input, say, or reopens it on one.
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
  std::atomic<std::size_t> used;  ///< Behind it there were never any.

  void add(FILE* file, int number) {
    for (std::size_t i = 0; i < kMost; ++i) {
      FILE* free = nullptr;
      if (!stream[i].compare_exchange_strong(free, file)) continue;
      fd[i] = number;
      std::size_t now = used.load();
      while (now <= i && !used.compare_exchange_weak(now, i + 1)) {
      }
      return;
    }
  }
  int find(FILE* file) const {
    for (std::size_t i = 0; i < used.load(std::memory_order_acquire); ++i) {
      if (stream[i].load() == file) return fd[i];
    }
    return -1;
  }
  void remove(int number) {
    for (std::size_t i = 0; i < used.load(std::memory_order_acquire); ++i) {
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

/// The variable that holds the standard stream of this descriptor.
FILE** standard(int fd) {
  return fd == STDIN_FILENO ? &stdin : fd == STDOUT_FILENO ? &stdout : &stderr;
}

/// What the C library reads by itself stays behind: who kept a pointer to it gets errors, and never other bytes.
FILE* replace_standard(int fd, const char* mode) {
  FILE* file = stream_of(fd, mode);
  if (file == nullptr) return nullptr;
  if (fd == STDERR_FILENO) std::setvbuf(file, nullptr, _IONBF, 0);
  *standard(fd) = file;
  return file;
}

/// Which of the standard streams it is, by its descriptor; -1 for others, which cannot be exchanged: of those the caller
/// has the pointer, and the C library the object behind it.
int standard_number(FILE* file) {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (file != nullptr && file == *standard(fd)) return fd;
  }
  errno = EOPNOTSUPP;
  return -1;
}

FILE* reopen(Served& served, const char* mode, FILE* file) {
  const int number = standard_number(file);
  const int flags = flags_of(mode);
  if (number < 0) return nullptr;
  if (flags < 0) return errno = EINVAL, nullptr;
  std::fflush(file);
  const int fd = open_served(served, flags);
  if (fd < 0) return nullptr;
  // A stream of ours has nothing else to be freed of: its descriptor is what the new one takes.
  streams.remove(number);
  if (fd != number) {
    if (::dup2(fd, number) < 0) return nullptr;
    ::close(fd);
  }
  return replace_standard(number, mode);
}

/// A stream of ours, on a file: one of the C library's, whose descriptor is the lowest that is free.
FILE* leave(const char* path, const char* mode, FILE* file) {
  const int number = standard_number(file);
  if (number < 0) return nullptr;
  std::fflush(file);
  streams.remove(number);
  ::close(number);
  FILE* fresh = ::fopen(path, mode);
  if (fresh == nullptr) return nullptr;
  if (number == STDERR_FILENO) std::setvbuf(fresh, nullptr, _IONBF, 0);
  return *standard(number) = fresh;
}

template <typename Real>
FILE* reopened(Real* real, const char* path, const char* mode, FILE* file) {
  const bool ours = streams.find(file) >= 0;
  if (path == nullptr) return ours ? file : real(path, mode, file);  // Binary or not is the same.
  if (Served* served = at_path(AT_FDCWD, path)) return reopen(*served, mode, file);
  return ours ? leave(path, mode, file) : real(path, mode, file);
}

}  // namespace

namespace mapcap::preload {

bool is_stream(FILE* file) {
  return streams.find(file) >= 0;
}

void replace_standard_streams() {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (const Open open = find(fd)) replace_standard(fd, !open.readable ? "w" : open.writable ? "r+" : "r");
  }
}

}  // namespace mapcap::preload

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
MAPCAP_SERVES FILE* freopen(const char* path, const char* mode, FILE* file) {
  return reopened(MAPCAP_REAL(freopen), path, mode, file);
}
MAPCAP_SERVES FILE* freopen64(const char* path, const char* mode, FILE* file) {
  return reopened(MAPCAP_REAL(freopen64), path, mode, file);
}
MAPCAP_SERVES int fileno(FILE* file) noexcept {
  const int fd = streams.find(file);
  return fd >= 0 ? fd : MAPCAP_REAL(fileno)(file);
}
MAPCAP_SERVES int fileno_unlocked(FILE* file) noexcept {
  const int fd = streams.find(file);
  return fd >= 0 ? fd : MAPCAP_REAL(fileno_unlocked)(file);
}
