// Which paths and descriptors of this process are regions, and where each open file stands.
//
// `mapcap run --at PATH=NAME` starts a program with a grant of the region among its descriptors, high up, and
// this library preloaded. An open of PATH gives a copy of the grant's descriptor, so mmap works on it as it
// is. Everything else that the kernel refuses on a grant (read, write and their like) is done here, on a
// mapping of the region.
//
// The copies share the grant's open file description, so the position of each open file is kept by us: in
// memory that is shared with children, since an open file's position is shared over fork and exec. That
// memory is a memfd which run passed on; (process, descriptor) -> cell is in it too, so that a program which
// was started with an open region as its standard input goes on where its parent stood.
//
// Nothing here allocates or locks: read and write may be called from signal handlers, and between fork and
// exec.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>

namespace mapcap::preload {

/// One --at. Set up once, before the program runs.
struct Served {
  const char* path = nullptr;  ///< Absolute, without `.`, `..` and double slashes.
  int fd = -1;                 ///< The grant's own descriptor, which stays open whatever the program does.
  bool writable = false;
  bool is_device = false;  ///< A character device, which tells of itself.
  std::uint64_t size = 0;
  std::uint64_t device = 0;  ///< As fstat has it: what tells its copies.
  std::uint64_t inode = 0;
  std::int64_t made = 0;                    ///< Seconds since 1970-01-01 UTC.
  std::atomic<std::byte*> memory{nullptr};  ///< Mapped when it is first read or written.
};

/// One open file: a position in a region. Valid until the descriptor is closed.
struct Open {
  Served* served = nullptr;
  std::atomic<std::uint64_t>* position = nullptr;
  bool readable = false;  ///< As it was opened.
  bool writable = false;
  bool append = false;
  explicit operator bool() const { return served != nullptr; }
};

/// What `fd` is; nothing where it is no region. Async-signal-safe.
Open find(int fd);

/// The region that stands at `path`, seen from the directory `dirfd`; null where none does. Keeps errno.
Served* at_path(int dirfd, const char* path);

/// A new open file, or -1 with errno: EACCES for writing where the grant does not, EEXIST, ENOTDIR, EMFILE.
int open_served(Served& served, int flags);
/// `copy` is now another descriptor of what `fd` is, whatever it was before: as after dup(2).
void copied(int fd, int copy);
/// `fd` was closed.
void closed(int fd);
/// As fcntl(F_SETFL) with or without O_APPEND, for this descriptor alone.
void set_append(int fd, bool append);
/// Whether `fd` is a grant's own descriptor, or our memory: not the program's to close.
bool is_ours(int fd);
/// How many descriptors is_ours() knows, and the nth of them in ascending order.
std::size_t ours();
int our(std::size_t n);

/// Copies up to `length` bytes from or to `at`. Returns how many, 0 at the end, or -1 with errno: EIO when
/// the region was revoked, EBADF where it was not opened for that, ENOSPC behind the end.
ssize_t read_at(const Open& open, void* to, std::size_t length, std::uint64_t at);
ssize_t write_at(const Open& open, const void* from, std::size_t length, std::uint64_t at);
/// Whether it is a stream of a region: one that the C library calls functions for.
bool is_stream(FILE* file);
/// Those of the standard streams that are regions become streams which can be read and written.
void replace_standard_streams();

/// Stores of this process to the region are as durable as msync makes them. 0, or -1 with errno.
int sync_all(const Open& open);

}  // namespace mapcap::preload
