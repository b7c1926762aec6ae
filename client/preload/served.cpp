#include "client/preload/served.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "client/preload/real.h"
#include "client/preload/shared.h"

namespace mapcap::preload {
namespace {

constexpr std::size_t kMostServed = 64;
/// Descriptors above are not given out: the table has no room for them.
constexpr int kMostDescriptors = 1 << 16;

/// What a descriptor is: 0 nothing of ours; else which region, which cell, and how it was opened.
struct Entry {
  static constexpr std::uint64_t kWritable = 1ULL << 62U;
  static constexpr std::uint64_t kAppend = 1ULL << 61U;
  static constexpr std::uint64_t kWriteOnly = 1ULL << 60U;
  static std::uint64_t of(std::size_t served, std::uint32_t cell, int flags) {
    const int access = flags & O_ACCMODE;
    return (std::uint64_t{served + 1} << 32U) | cell | (access != O_RDONLY ? kWritable : 0) |
           (access == O_WRONLY ? kWriteOnly : 0) | ((flags & O_APPEND) != 0 ? kAppend : 0);
  }
  static std::size_t served(std::uint64_t entry) { return ((entry >> 32U) & 0xffff) - 1; }
  static std::uint32_t cell(std::uint64_t entry) { return static_cast<std::uint32_t>(entry); }
};

std::array<Served, kMostServed> all;
std::size_t count = 0;
std::array<int, kMostServed + 1> own{};  ///< Ascending.
std::size_t own_count = 0;
std::array<std::atomic<std::uint64_t>, kMostDescriptors> table;
SharedPositions* positions = nullptr;

bool begins(const char* text, const char* with) {
  return std::strncmp(text, with, std::strlen(with)) == 0;
}

bool in_table(int fd) {
  return fd >= 0 && fd < kMostDescriptors;
}

// ---- set-up: $MAPCAP_AT, which `mapcap run` wrote: MEMFD, then for each region ;FD:RIGHTS:MADE:PATH, with
// the second in which it was created, and '%' and ';' in a path as %XX

[[noreturn]] void give_up(const char* why) {
  std::fprintf(stderr, "mapcap: $MAPCAP_AT is not what `mapcap run --at` sets: %s\n", why);
  ::_exit(126);
}

int number(const char*& text, char end) {
  char* stop = nullptr;
  const long value = std::strtol(text, &stop, 10);
  if (stop == text || *stop != end || value < 0 || value >= kMostDescriptors) give_up(text);
  text = stop + 1;
  return static_cast<int>(value);
}

int digit(char c) {
  return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/// Decodes in place what ends at ';' or the text's end; returns where the next begins, or null.
char* decode(char* text) {
  char* to = text;
  for (; *text != '\0' && *text != ';'; ++text) {
    if (*text == '%' && digit(text[1]) >= 0 && digit(text[2]) >= 0) {
      *to++ = static_cast<char>(digit(text[1]) * 16 + digit(text[2]));
      text += 2;
    } else {
      *to++ = *text;
    }
  }
  char* next = *text == ';' ? text + 1 : nullptr;
  *to = '\0';
  return next;
}

/// Bytes of a device-DAX node, as sysfs has it; 0 where it does not.
std::uint64_t device_size(dev_t device) {
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), "/sys/dev/char/%u:%u/size", major(device), minor(device));
  const int fd = static_cast<int>(::syscall(SYS_openat, AT_FDCWD, text.data(), O_RDONLY | O_CLOEXEC));
  if (fd < 0) return 0;
  text.fill('\0');
  const long got = ::syscall(SYS_read, fd, text.data(), text.size() - 1);
  ::syscall(SYS_close, fd);
  return got > 0 ? std::strtoull(text.data(), nullptr, 10) : 0;
}

void add_own(int fd) {
  own[own_count++] = fd;
  std::sort(own.begin(), own.begin() + static_cast<std::ptrdiff_t>(own_count));
}

bool same_file(const struct stat& status, const Served& served) {
  return status.st_dev == served.device && status.st_ino == served.inode;
}

/// Descriptors that this program was started with and that are regions: a shell's redirection, for example.
void take_over() {
  const int last = std::min<int>(kMostDescriptors, static_cast<int>(::sysconf(_SC_OPEN_MAX)));
  for (int fd = 0; fd < last; ++fd) {
    struct stat status {};
    if (is_ours(fd) || ::syscall(SYS_fcntl, fd, F_GETFD) < 0) continue;
    if (MAPCAP_REAL(fstat)(fd, &status) != 0) continue;
    for (std::size_t i = 0; i < count; ++i) {
      if (!same_file(status, all[i])) continue;
      const std::uint64_t known = positions->entry_of(::getpid(), fd);
      const std::uint64_t of_parent = known != 0 ? known : positions->entry_of(::getppid(), fd);
      const bool usable = of_parent != 0 && Entry::served(of_parent) == i;
      const std::uint64_t entry =
          usable ? of_parent : Entry::of(i, positions->new_cell(), all[i].writable ? O_RDWR : O_RDONLY);
      if (known == 0) positions->note(::getpid(), fd, entry);
      table[static_cast<std::size_t>(fd)] = entry;
    }
  }
}

/// The child's descriptors are the parent's.
void after_fork() {
  for (int fd = 0; fd < kMostDescriptors; ++fd) {
    const std::uint64_t entry = table[static_cast<std::size_t>(fd)].load(std::memory_order_relaxed);
    if (entry == 0) continue;
    positions->keep(Entry::cell(entry));
    positions->note(::getpid(), fd, entry);
  }
}

__attribute__((constructor)) void set_up() {
  const char* given = std::getenv("MAPCAP_AT");
  if (given == nullptr || *given == '\0') return;
  const int saved = errno;
  const int memfd = static_cast<int>(std::strtol(given, nullptr, 10));
  positions = SharedPositions::map(memfd);
  if (positions == nullptr) give_up(given);
  add_own(memfd);
  // Lives as long as the process: paths point into it.
  char* text = ::strdup(given);
  char* next = std::strchr(text, ';');
  if (next != nullptr) ++next;
  while (next != nullptr) {
    if (count == kMostServed) give_up("more than 64 regions");
    Served& served = all[count];
    const char* rest = next;
    served.fd = number(rest, ':');
    served.writable = begins(rest, "rw:");
    if (!served.writable && !begins(rest, "ro:")) give_up(rest);
    char* path = nullptr;
    served.made = std::strtoll(rest + 3, &path, 10);
    if (*path++ != ':') give_up(rest);
    next = decode(path);
    served.path = path;
    struct stat status {};
    if (MAPCAP_REAL(fstat)(served.fd, &status) != 0) give_up("a grant's descriptor is not open");
    served.is_device = S_ISCHR(status.st_mode);
    served.size = served.is_device ? device_size(status.st_rdev) : static_cast<std::uint64_t>(status.st_size);
    served.device = status.st_dev;
    served.inode = status.st_ino;
    add_own(served.fd);
    ++count;
  }
  take_over();
  replace_standard_streams();
  ::pthread_atfork(nullptr, nullptr, after_fork);
  errno = saved;
}

/// The region's bytes; null with errno where they cannot be mapped.
std::byte* memory_of(Served& served) {
  std::byte* memory = served.memory.load(std::memory_order_acquire);
  if (memory != nullptr) return memory;
  // SAFETY: a new mapping at an address of the kernel's choice, for as long as the process lives.
  void* mapped = ::mmap(nullptr, served.size, served.writable ? PROT_READ | PROT_WRITE : PROT_READ,
                        MAP_SHARED, served.fd, 0);
  if (mapped == MAP_FAILED) return nullptr;
  std::byte* fresh = static_cast<std::byte*>(mapped);
  if (served.memory.compare_exchange_strong(memory, fresh)) return fresh;
  ::munmap(mapped, served.size);  // Another thread was faster.
  return memory;
}

/// The kernel copies, so that a region which was revoked is an error and no SIGBUS; where it may not
/// (seccomp), we do.
ssize_t copy(std::byte* inside, void* outside, std::size_t length, bool writes) {
  iovec local{outside, length};
  iovec remote{inside, length};
  const int saved = errno;
  const ssize_t done = writes ? ::process_vm_writev(::getpid(), &local, 1, &remote, 1, 0)
                              : ::process_vm_readv(::getpid(), &local, 1, &remote, 1, 0);
  if (done >= 0) return done;
  if (errno == ENOSYS || errno == EPERM) {
    errno = saved;
    std::memcpy(writes ? inside : outside, writes ? outside : inside, length);
    return static_cast<ssize_t>(length);
  }
  if (errno == EFAULT) errno = EIO;
  return -1;
}

/// "/dev/stdin", "/dev/fd/N", "/proc/self/fd/N" and their like: what is open already, by its number. Else -1.
int descriptor_named(const char* path) {
  constexpr std::array kStandard{"/dev/stdin", "/dev/stdout", "/dev/stderr"};
  for (std::size_t fd = 0; fd < kStandard.size(); ++fd) {
    if (std::strcmp(path, kStandard[fd]) == 0) return static_cast<int>(fd);
  }
  std::array<char, 32> by_process{};
  if (begins(path, "/proc/"))
    std::snprintf(by_process.data(), by_process.size(), "/proc/%d/fd/", static_cast<int>(::getpid()));
  const std::array<const char*, 4> prefixes{"/dev/fd/", "/proc/self/fd/", "/proc/thread-self/fd/",
                                            by_process.data()};
  for (const char* prefix : prefixes) {
    const std::size_t length = std::strlen(prefix);
    if (length == 0 || !begins(path, prefix) || path[length] == '\0') continue;
    int fd = 0;
    for (const char* digit = path + length; *digit != '\0'; ++digit) {
      if (*digit < '0' || *digit > '9' || fd >= kMostDescriptors) return -1;
      fd = fd * 10 + (*digit - '0');
    }
    return fd;
  }
  return -1;
}

}  // namespace

Open find(int fd) {
  if (!in_table(fd)) return {};
  const std::uint64_t entry = table[static_cast<std::size_t>(fd)].load(std::memory_order_acquire);
  if (entry == 0) return {};
  return {&all[Entry::served(entry)], positions->cell(Entry::cell(entry)), (entry & Entry::kWriteOnly) == 0,
          (entry & Entry::kWritable) != 0, (entry & Entry::kAppend) != 0};
}

int open_served(Served& served, int flags) {
  const int access = flags & O_ACCMODE;
  const bool writes = access == O_WRONLY || access == O_RDWR;
  if ((flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL)) return errno = EEXIST, -1;
  if ((flags & O_DIRECTORY) != 0) return errno = ENOTDIR, -1;
  if (writes && !served.writable) return errno = EACCES, -1;
  // O_TRUNC means nothing to a region, whose size stays, as it means nothing to a device.
  const int fd = static_cast<int>(
      ::syscall(SYS_fcntl, served.fd, (flags & O_CLOEXEC) != 0 ? F_DUPFD_CLOEXEC : F_DUPFD, 0));
  if (fd < 0) return -1;
  if (!in_table(fd)) {
    ::syscall(SYS_close, fd);
    return errno = EMFILE, -1;
  }
  const std::uint64_t entry =
      Entry::of(static_cast<std::size_t>(&served - all.data()), positions->new_cell(), flags);
  positions->note(::getpid(), fd, entry);
  table[static_cast<std::size_t>(fd)].store(entry, std::memory_order_release);
  return fd;
}

void copied(int fd, int copy) {
  if (!in_table(fd) || !in_table(copy) || fd == copy) return;
  const std::uint64_t entry = table[static_cast<std::size_t>(fd)].load(std::memory_order_acquire);
  if (entry != 0) {
    positions->keep(Entry::cell(entry));
    positions->note(::getpid(), copy, entry);
  }
  const std::uint64_t before =
      table[static_cast<std::size_t>(copy)].exchange(entry, std::memory_order_acq_rel);
  if (before == 0) return;
  positions->drop(Entry::cell(before));
  if (entry == 0) positions->forget(::getpid(), copy);
}

void closed(int fd) {
  if (!in_table(fd)) return;
  const std::uint64_t entry = table[static_cast<std::size_t>(fd)].exchange(0, std::memory_order_acq_rel);
  if (entry == 0) return;
  positions->drop(Entry::cell(entry));
  positions->forget(::getpid(), fd);
}

void set_append(int fd, bool append) {
  std::atomic<std::uint64_t>& entry = table[static_cast<std::size_t>(fd)];
  const std::uint64_t now = (entry.load() & ~Entry::kAppend) | (append ? Entry::kAppend : 0);
  positions->note(::getpid(), fd, now);
  entry.store(now);
}

bool is_ours(int fd) {
  return std::binary_search(own.begin(), own.begin() + static_cast<std::ptrdiff_t>(own_count), fd);
}
std::size_t ours() {
  return own_count;
}
int our(std::size_t n) {
  return own[n];
}

Served* at_path(int dirfd, const char* path) {
  if (count == 0 || path == nullptr || *path == '\0') return nullptr;
  const int saved = errno;
  std::array<char, PATH_MAX + 1> buffer;
  std::size_t length = 0;
  if (*path != '/') {
    // Of what directory the path speaks; a region lies below none that is not there.
    std::array<char, 64> link{};
    if (dirfd == AT_FDCWD) {
      std::strcpy(link.data(), "/proc/self/cwd");
    } else {
      std::snprintf(link.data(), link.size(), "/proc/self/fd/%d", dirfd);
    }
    const long got = ::syscall(SYS_readlinkat, AT_FDCWD, link.data(), buffer.data(), buffer.size() - 1);
    errno = saved;
    if (got <= 0) return nullptr;
    length = static_cast<std::size_t>(got);
    if (length == 1) length = 0;  // The root: its slash comes with the first component.
  }
  // Component by component, as realpath(3) would without symbolic links.
  for (const char* at = path; *at != '\0';) {
    while (*at == '/') ++at;
    const char* end = at;
    while (*end != '\0' && *end != '/') ++end;
    const std::string_view component(at, static_cast<std::size_t>(end - at));
    at = end;
    if (component.empty() || component == ".") continue;
    if (component == "..") {
      while (length > 0 && buffer[--length] != '/') {
      }
      continue;
    }
    if (length + 1 + component.size() > PATH_MAX) return nullptr;
    buffer[length++] = '/';
    std::memcpy(buffer.data() + length, component.data(), component.size());
    length += component.size();
  }
  const std::string_view absolute(buffer.data(), length);
  for (std::size_t i = 0; i < count; ++i) {
    if (absolute == all[i].path) return &all[i];
  }
  buffer[length] = '\0';
  return find(descriptor_named(buffer.data())).served;
}

ssize_t read_at(const Open& open, void* to, std::size_t length, std::uint64_t at) {
  if (!open.readable) return errno = EBADF, -1;
  if (at >= open.served->size || length == 0) return 0;
  std::byte* memory = memory_of(*open.served);
  if (memory == nullptr) return -1;
  const std::size_t most =
      std::min<std::uint64_t>(std::min<std::size_t>(length, SSIZE_MAX), open.served->size - at);
  return copy(memory + at, to, most, false);
}

ssize_t write_at(const Open& open, const void* from, std::size_t length, std::uint64_t at) {
  if (!open.writable) return errno = EBADF, -1;
  if (length == 0) return 0;
  if (at >= open.served->size) return errno = ENOSPC, -1;
  std::byte* memory = memory_of(*open.served);
  if (memory == nullptr) return -1;
  const std::size_t most =
      std::min<std::uint64_t>(std::min<std::size_t>(length, SSIZE_MAX), open.served->size - at);
  return copy(memory + at, const_cast<void*>(from), most, true);
}

int sync_all(const Open& open) {
  std::byte* memory = memory_of(*open.served);
  return memory == nullptr ? -1 : ::msync(memory, open.served->size, MS_SYNC);
}

}  // namespace mapcap::preload
