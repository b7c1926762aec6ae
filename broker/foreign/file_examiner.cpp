#include "broker/foreign/file_examiner.h"

#include <linux/magic.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>

#include "schema/channel.h"

#ifndef XFS_SUPER_MAGIC
#define XFS_SUPER_MAGIC 0x58465342
#endif
#ifndef BCACHEFS_STATFS_MAGIC
#define BCACHEFS_STATFS_MAGIC 0xca451a4e
#endif

namespace mapcap::broker {

using namespace std::chrono_literals;

namespace {

constexpr std::chrono::nanoseconds kDeadline = 1s;
constexpr std::chrono::nanoseconds kReapEvery = 100ms;
/// Children of one user, and of all: those that hang end with the filesystem that they wait for.
constexpr std::ptrdiff_t kMostOfUser = 16;
constexpr std::size_t kMost = 256;

/// Local filesystems that no process answers for: a call on them ends. FUSE and network filesystems are out.
constexpr std::array<std::int64_t, 6> kLocal{TMPFS_MAGIC,       EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC,
                                             BTRFS_SUPER_MAGIC, F2FS_SUPER_MAGIC, BCACHEFS_STATFS_MAGIC};

/// What a child answers; the file itself rides on it when it is regular and local.
struct Found {
  std::uint32_t descriptors = 0;
  std::uint32_t mode = 0;
  std::uint64_t size = 0;
  bool local = false;
  bool unwritable = false;  ///< Its filesystem, or the mount it was opened through, is read-only.
};

/// Room for two descriptors: one more than there should be.
struct alignas(cmsghdr) Control {
  std::array<char, CMSG_SPACE(2 * sizeof(int))> bytes{};
};

// ---- in the child: only async-signal-safe calls, since the broker has threads

void close_all_but(int one, int other) {
  const int low = std::min(one, other);
  const int high = std::max(one, other);
  if (low > 0) ::close_range(0, static_cast<unsigned>(low - 1), 0);
  if (high > low + 1) ::close_range(static_cast<unsigned>(low + 1), static_cast<unsigned>(high - 1), 0);
  ::close_range(static_cast<unsigned>(high + 1), ~0U, 0);
}

/// Copies of the descriptors on the next packet; returns the first, and how many there are.
int peek_descriptors(int socket, std::uint32_t& count) {
  char byte = 0;
  iovec data{&byte, 1};
  Control control;
  msghdr header{};
  header.msg_iov = &data;
  header.msg_iovlen = 1;
  header.msg_control = control.bytes.data();
  header.msg_controllen = control.bytes.size();
  if (::recvmsg(socket, &header, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC) < 0) return -1;
  const cmsghdr* part = CMSG_FIRSTHDR(&header);
  if (part == nullptr || part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) return -1;
  count = static_cast<std::uint32_t>((part->cmsg_len - CMSG_LEN(0)) / sizeof(int));
  int first = -1;
  // SAFETY: the kernel wrote at least one int here; it need not be aligned, hence memcpy.
  std::memcpy(&first, CMSG_DATA(part), sizeof first);
  return first;
}

void answer(int to, Found found, int file) {
  iovec data{&found, sizeof found};
  Control control;
  msghdr header{};
  header.msg_iov = &data;
  header.msg_iovlen = 1;
  if (file >= 0) {
    header.msg_control = control.bytes.data();
    header.msg_controllen = CMSG_SPACE(sizeof file);
    cmsghdr* part = CMSG_FIRSTHDR(&header);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(sizeof file);
    std::memcpy(CMSG_DATA(part), &file, sizeof file);
  }
  ::sendmsg(to, &header, MSG_NOSIGNAL);
}

[[noreturn]] void look(int socket, int to) {
  // A child that hangs must not make a dead broker, or a connection that ended, look alive.
  close_all_but(socket, to);
  Found found;
  const int file = peek_descriptors(socket, found.descriptors);
  ::close(socket);
  struct statfs filesystem {};
  struct stat status {};
  if (found.descriptors == 1 && ::fstatfs(file, &filesystem) == 0) {
    for (const std::int64_t magic : kLocal) found.local = found.local || filesystem.f_type == magic;
    if (found.local && ::fstat(file, &status) == 0) {
      found.mode = status.st_mode;
      found.size = static_cast<std::uint64_t>(status.st_size);
      // statfs(2) and statvfs(3) have the same flags.
      found.unwritable = (static_cast<unsigned long>(filesystem.f_flags) & ST_RDONLY) != 0;
    }
  }
  answer(to, found, found.local && S_ISREG(found.mode) ? file : -1);
  ::_exit(0);
}

// ---- in the broker

struct Started {
  pid_t pid = 0;
  Fd from;
};

Result<Started> start_child(BorrowedFd socket) {
  MAPCAP_TRY(auto ends, schema::socket_pair());
  const pid_t child = ::fork();
  if (child < 0) return io_error("fork", errno);
  if (child == 0) look(socket.get(), ends.second.get());
  return Started{child, std::move(ends.first)};
}

Failure silent() {
  return failure(ErrorCode::unsupported,
                 "the file's filesystem did not answer within a second; copy the file to a local filesystem");
}

Result<PassedFile> hear(BorrowedFd from) {
  MAPCAP_TRY(auto received, schema::receive(from, sizeof(Found), 1));
  auto* packet = std::get_if<schema::Incoming>(&received);
  Found found;
  if (packet == nullptr || packet->bytes.size() != sizeof found) return silent();
  std::memcpy(&found, packet->bytes.data(), sizeof found);
  if (found.descriptors != 1) {
    return failure(ErrorCode::malformed,
                   "a clone request needs exactly one descriptor, announced in the hello");
  }
  if (!found.local) {
    return failure(
        ErrorCode::unsupported,
        "files of this filesystem cannot be cloned: only local ones (tmpfs, memfd, ext4, XFS, btrfs, "
        "f2fs, bcachefs); copy the file there");
  }
  if (!S_ISREG(found.mode) || packet->fds.empty())
    return failure(ErrorCode::invalid, "only a regular file can be cloned");
  if (found.size == 0) return failure(ErrorCode::invalid, "the file is empty: there is nothing to map");
  if (found.unwritable) {
    // The kernel opens a clone's file for writing, whatever the clone's rights.
    return failure(ErrorCode::unsupported,
                   "the file's filesystem is mounted read-only, where nothing can be cloned; clone a "
                   "copy that lies elsewhere");
  }
  return PassedFile{std::move(packet->fds.front()), {found.size}};
}

}  // namespace

Task<Result<PassedFile>> FileExaminer::examine(std::uint32_t uid, BorrowedFd socket) {
  MAPCAP_CO_TRY_VOID(co_await make_room(uid));
  auto begin = [socket] { return start_child(socket); };
  Result<Started> started = co_await worker_.run(begin);
  MAPCAP_CO_TRY(const Started child, std::move(started));
  children_.push_back({child.pid, uid, false});

  Result<PassedFile> heard = silent();
  {
    Loop::Watch watch(loop_, child.from.borrow());
    const Loop::Timer late = loop_.after(kDeadline, [&watch] { watch.cancel(); });
    const bool answered = co_await watch.readable();
    if (answered) heard = hear(child.from.borrow());
  }
  ::kill(child.pid, SIGKILL);  // Not reaped yet, so the number is still its own.
  for (Child& one : children_) one.done = one.done || one.pid == child.pid;
  reap_timer_ = loop_.after(kReapEvery, [this] { reap(); });
  co_return heard;
}

/// Children that have just answered need a moment to end.
Task<Result<void>> FileExaminer::make_room(std::uint32_t uid) {
  for (int attempt = 0; attempt < 20; ++attempt) {
    reap();
    const auto of_user = std::count_if(children_.begin(), children_.end(),
                                       [uid](const Child& child) { return child.uid == uid; });
    if (of_user < kMostOfUser && children_.size() < kMost) co_return ok();
    co_await loop_.sleep(10ms);
  }
  co_return failure(ErrorCode::exhausted,
                    "too many files that were to be cloned lie on filesystems that do not answer; end "
                    "those filesystems, then try again");
}

void FileExaminer::reap() {
  std::erase_if(children_,
                [](const Child& child) { return child.done && ::waitpid(child.pid, nullptr, WNOHANG) != 0; });
  reap_timer_ = children_.empty() ? Loop::Timer() : loop_.after(kReapEvery, [this] { reap(); });
}

}  // namespace mapcap::broker
