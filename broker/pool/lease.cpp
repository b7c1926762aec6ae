#include "broker/pool/lease.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <string>
#include <string_view>

namespace mapcap::broker::pool {

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
  const Fd file(::open("/proc/locks", O_RDONLY | O_CLOEXEC));
  if (!file.valid()) return io_error("opening /proc/locks", errno);
  Locks locks;
  std::array<char, 16384> part{};
  for (int reads = 0;; ++reads) {
    const ssize_t got = ::read(file.get(), part.data(), part.size());
    if (got < 0) return io_error("reading /proc/locks", errno);
    locks.in_one_piece = reads <= 1;
    if (got == 0) return locks;
    locks.text.append(part.data(), static_cast<std::size_t>(got));
  }
}

/// Of lines like "1: LEASE  ACTIVE    READ  2310 00:0e:1418330 0 EOF". By the inode's number alone: another
/// filesystem's inode of the same number can at most make a charge last longer.
void take_leases(std::string_view locks, std::unordered_set<std::uint64_t>& inodes) {
  constexpr std::string_view kLease = " LEASE ";
  for (std::size_t at = locks.find(kLease); at != std::string_view::npos; at = locks.find(kLease, at)) {
    const std::size_t end = std::min(locks.find('\n', at), locks.size());
    const std::string_view line = locks.substr(at, end - at);
    at = end;
    const std::size_t number = line.rfind(':') + 1;  // npos + 1 is the beginning.
    std::uint64_t inode = 0;
    const auto [stop, failed] = std::from_chars(line.data() + number, line.data() + line.size(), inode);
    if (failed == std::errc{}) inodes.insert(inode);
  }
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
  return io_error("the lease probe on a region's memory", errno);
}

Result<bool> open_for_writing(BorrowedFd fd) {
  ::fcntl(fd.get(), F_SETSIG, SIGURG);
  if (::fcntl(fd.get(), F_SETLEASE, F_RDLCK) == 0) {
    ::fcntl(fd.get(), F_SETLEASE, F_UNLCK);
    return false;
  }
  if (errno == EAGAIN || errno == EBUSY) return true;
  return io_error("the lease probe on a region's memory", errno);
}

Result<std::uint64_t> mark_with_lease(BorrowedFd fd) {
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) return io_error("fstat of a region's memory", errno);
  ::fcntl(fd.get(), F_SETSIG, SIGURG);
  if (!in_first_pid_namespace() || ::fcntl(fd.get(), F_SETLEASE, F_RDLCK) != 0) {
    return failure(ErrorCode::unsupported,
                   "this kernel gives no lease on this kind of memory, so nobody could tell when its last "
                   "holder has let go of it");
  }
  return static_cast<std::uint64_t>(status.st_ino);
}

Result<bool> Leases::lives(std::uint64_t inode) {
  const std::lock_guard lock(mutex_);
  const auto asked = std::chrono::steady_clock::now();
  if (asked - read_at_ < kFresh && inodes_.contains(inode)) return true;
  inodes_.clear();
  read_at_ = asked;
  for (int scan = 0; scan < kScans; ++scan) {
    MAPCAP_TRY(const Locks locks, read_locks());
    take_leases(locks.text, inodes_);
    if (inodes_.contains(inode)) return true;
    if (locks.in_one_piece) return false;
  }
  return false;
}

}  // namespace mapcap::broker::pool
