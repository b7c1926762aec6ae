#include "broker/pool/lease.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <string>
#include <string_view>

namespace mapcap::broker::pool {

using schema::BorrowedFd;
using schema::Result;
using schema::UniqueFd;

namespace {

/// In another pid namespace /proc/locks hides the leases of processes that have ended (fs/locks.c,
/// locks_translate_pid): a broker's death would look like its regions'. The number is PROC_PID_INIT_INO.
bool in_first_pid_namespace() {
  std::array<char, 64> name{};
  const ssize_t length = ::readlink("/proc/self/ns/pid", name.data(), name.size());
  return length > 0 && std::string_view(name.data(), static_cast<std::size_t>(length)) == "pid:[4026531836]";
}

struct Locks {
  std::string text;
  bool in_one_piece = false;
};

Result<Locks> read_locks() {
  const UniqueFd file(::open("/proc/locks", O_RDONLY | O_CLOEXEC));
  if (!file.valid()) return schema::io_error("opening /proc/locks", errno);
  Locks locks;
  std::array<char, 16384> part{};
  for (int reads = 0;; ++reads) {
    const ssize_t got = ::read(file.get(), part.data(), part.size());
    if (got < 0) return schema::io_error("reading /proc/locks", errno);
    locks.in_one_piece = reads <= 1;
    if (got == 0) return locks;
    locks.text.append(part.data(), static_cast<std::size_t>(got));
  }
}

/// "1: LEASE  ACTIVE    READ  2310 00:0e:1418330 0 EOF". By the inode's number alone: another filesystem's
/// inode of the same number can at most make a charge last longer.
bool names_lease(std::string_view locks, std::uint64_t inode) {
  const std::string suffix = ":" + std::to_string(inode) + " ";
  for (std::size_t at = locks.find(suffix); at != std::string_view::npos; at = locks.find(suffix, at + 1)) {
    const std::size_t line = locks.rfind('\n', at) + 1;  // npos + 1 is the beginning.
    if (locks.substr(line, at - line).find(" LEASE ") != std::string_view::npos) return true;
  }
  return false;
}

/// The kernel hands out one read's worth at a time, and between two reads locks that end move those behind
/// them up, past the place where the next one goes on. Somebody who takes and releases thousands of locks
/// could hide one so from a scan, not from all of these.
constexpr int kScans = 16;

}  // namespace

Result<bool> open_elsewhere(BorrowedFd fd) {
  // Root may open the file at this moment; the default signal of a broken lease would end the broker.
  ::fcntl(fd.get(), F_SETSIG, SIGURG);
  if (::fcntl(fd.get(), F_SETLEASE, F_WRLCK) == 0) {
    ::fcntl(fd.get(), F_SETLEASE, F_UNLCK);
    return false;
  }
  if (errno == EAGAIN || errno == EBUSY) return true;
  return schema::io_error("the lease probe on a region's memory", errno);
}

Result<std::uint64_t> mark_with_lease(BorrowedFd fd) {
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) return schema::io_error("fstat of a region's memory", errno);
  ::fcntl(fd.get(), F_SETSIG, SIGURG);
  if (!in_first_pid_namespace() || ::fcntl(fd.get(), F_SETLEASE, F_RDLCK) != 0) {
    return schema::error(
        schema::ErrorCode::unsupported,
        "this kernel gives no lease on this kind of memory, so nobody could tell when its last "
        "holder has let go of it");
  }
  return static_cast<std::uint64_t>(status.st_ino);
}

Result<bool> lease_lives(std::uint64_t inode) {
  for (int scan = 0; scan < kScans; ++scan) {
    MAPCAP_TRY(const Locks locks, read_locks());
    if (names_lease(locks.text, inode)) return true;
    if (locks.in_one_piece) return false;
  }
  return false;
}

}  // namespace mapcap::broker::pool
