#include "broker/confine/lsm/self_test.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <functional>
#include <string>

namespace mapcap::broker::confine::lsm {

namespace {

constexpr std::size_t kSize = 4096;

/// 0, or the errno of a call that answered below zero.
int failure(long answer) {
  return answer < 0 ? errno : 0;
}

int map(int fd, int protection) {
  void* address = ::mmap(nullptr, kSize, protection, MAP_SHARED, fd, 0);
  if (address == MAP_FAILED) return errno;
  ::munmap(address, kSize);
  return 0;
}

int make_executable(int fd) {
  void* address = ::mmap(nullptr, kSize, PROT_READ, MAP_SHARED, fd, 0);
  if (address == MAP_FAILED) return 0;  // Not what is asked here: counts as let through.
  const int failed = failure(::mprotect(address, kSize, PROT_READ | PROT_EXEC));
  ::munmap(address, kSize);
  return failed;
}

int open_again(int fd) {
  const Fd fresh(::open(("/proc/self/fd/" + std::to_string(fd)).c_str(), O_RDWR | O_CLOEXEC));
  return failure(fresh.get());
}

struct Trial {
  const char* operation;
  bool refused;
  int (*attempt)(int fd);
};

constexpr std::array<Trial, 12> kTrials{{
    {"read", true,
     [](int fd) {
       char byte = 0;
       return failure(::pread(fd, &byte, 1, 0));
     }},
    {"write", true, [](int fd) { return failure(::pwrite(fd, "x", 1, 0)); }},
    {"open", true, open_again},
    {"ftruncate", true, [](int fd) { return failure(::ftruncate(fd, kSize)); }},
    {"ioctl", true,
     [](int fd) {
       int flags = 0;
       return failure(::ioctl(fd, FS_IOC_GETFLAGS, &flags));
     }},
    {"fcntl", true, [](int fd) { return failure(::fcntl(fd, F_SETFL, O_APPEND)); }},
    {"fchown", true,
     [](int fd) { return failure(::fchown(fd, static_cast<uid_t>(-1), static_cast<gid_t>(-1))); }},
    {"setxattr", true, [](int fd) { return failure(::fsetxattr(fd, "user.mapcap", "x", 1, 0)); }},
    {"executable mmap", true, [](int fd) { return map(fd, PROT_READ | PROT_EXEC); }},
    {"executable mprotect", true, make_executable},
    {"mmap", false, [](int fd) { return map(fd, PROT_READ | PROT_WRITE); }},
    {"F_GET_SEALS", false, [](int fd) { return failure(::fcntl(fd, F_GET_SEALS)); }},
}};

Failure wrong(const std::string& operation, const char* outcome) {
  return failure(ErrorCode::unsupported, "the LSM programs are attached, but " + operation +
                                             " of a marked file was " + outcome +
                                             "; boot with bpf in the lsm= list, on Linux 6.1 or newer");
}

}  // namespace

Result<void> test(const Maps& maps) {
  const Fd file(::memfd_create("mapcap-lsm-test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!file.valid()) return io_error("memfd_create", errno);
  if (::fchmod(file.get(), 0600) != 0 || ::ftruncate(file.get(), kSize) != 0) {
    return io_error("preparing a memfd", errno);
  }
  MAPCAP_TRY_VOID(mark(maps, file.borrow()));
  for (const Trial& trial : kTrials) {
    const int failed = trial.attempt(file.get());
    if (trial.refused && failed != EPERM) return wrong(trial.operation, "let through");
    if (!trial.refused && failed != 0) return wrong(trial.operation, "refused");
  }
  MAPCAP_TRY_VOID(exempt_this_process(maps));
  if (open_again(file.get()) != 0) return wrong("the broker's own open", "refused");
  if (::ftruncate(file.get(), 0) != 0) return wrong("the broker's own ftruncate", "refused");
  return ok();
}

}  // namespace mapcap::broker::confine::lsm
