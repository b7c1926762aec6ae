#include "broker/file_clones.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>

#ifndef XFS_SUPER_MAGIC
#define XFS_SUPER_MAGIC 0x58465342
#endif
#ifndef BCACHEFS_STATFS_MAGIC
#define BCACHEFS_STATFS_MAGIC 0xca451a4e
#endif
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

namespace mapcap::broker {

using schema::Access;
using schema::BorrowedFd;
using schema::ErrorCode;
using schema::RegionId;
using schema::Result;
using schema::UniqueFd;

namespace {

/// Regions of the ledger count up from 1; clones of files live in the other half of the number space.
constexpr std::uint64_t kCloneIds = 1ULL << 63U;

/// Local filesystems that no process answers for: a call on them ends. FUSE and network filesystems are out,
/// since whoever serves them could keep the broker waiting for ever.
constexpr std::array<std::int64_t, 6> kLocal{TMPFS_MAGIC,       EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC,
                                             BTRFS_SUPER_MAGIC, F2FS_SUPER_MAGIC, BCACHEFS_STATFS_MAGIC};

struct Found {
  std::int64_t filesystem = 0;
  std::uint32_t mode = 0;
  std::uint64_t size = 0;
};

/// statfs and fstat in a child that can be killed: on a hostile FUSE mount they never return, and whoever
/// called them cannot be interrupted either.
Result<Found> look_at(BorrowedFd fd) {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return schema::io_error("pipe2", errno);
  const UniqueFd from(ends[0]);
  UniqueFd to(ends[1]);
  const pid_t child = ::fork();
  if (child < 0) return schema::io_error("fork", errno);
  if (child == 0) {
    // Only async-signal-safe calls: the parent has threads. And nothing of the broker's stays open here: a
    // child that hangs must not make a dead broker look alive.
    const int low = std::min(fd.get(), to.get());
    const int high = std::max(fd.get(), to.get());
    if (low > 0) ::close_range(0, static_cast<unsigned>(low - 1), 0);
    if (high > low + 1) ::close_range(static_cast<unsigned>(low + 1), static_cast<unsigned>(high - 1), 0);
    ::close_range(static_cast<unsigned>(high + 1), ~0U, 0);
    struct statfs filesystem {};
    struct stat status {};
    Found found;
    if (::fstatfs(fd.get(), &filesystem) == 0) {
      found.filesystem = filesystem.f_type;
      if (::fstat(fd.get(), &status) == 0) {
        found.mode = status.st_mode;
        found.size = static_cast<std::uint64_t>(status.st_size);
      }
    }
    const ssize_t written = ::write(to.get(), &found, sizeof found);
    ::_exit(written == sizeof found ? 0 : 1);
  }
  to.reset();
  pollfd waiting{from.get(), POLLIN, 0};
  constexpr int kDeadlineMs = 1000;
  const int answered = ::poll(&waiting, 1, kDeadlineMs);
  Found found;
  const bool complete = answered == 1 && ::read(from.get(), &found, sizeof found) == sizeof found;
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  if (!complete) {
    return schema::error(ErrorCode::unsupported,
                         "the file's filesystem did not answer within a second; copy the file "
                         "to a local filesystem");
  }
  return found;
}

Result<void> check_rights(BorrowedFd fd, Access rights) {
  const int flags = ::fcntl(fd.get(), F_GETFL);
  if (flags < 0) return schema::io_error("reading the descriptor's flags", errno);
  const int mode = flags & O_ACCMODE;
  auto denied = [](const std::string& why) {
    return schema::error(ErrorCode::denied, "a clone gives no more than its file's descriptor does: " + why);
  };
  if ((flags & O_PATH) != 0) return denied("it was opened with O_PATH");
  if (mode == O_WRONLY) return denied("it was opened for writing only");
  if (rights == Access::read_only) return schema::ok();
  if (mode != O_RDWR) return denied("it was opened for reading only; ask with --ro");
  if ((flags & O_APPEND) != 0) return denied("it may only append; ask with --ro");
  const int seals = ::fcntl(fd.get(), F_GET_SEALS);
  // The kernel does not enforce write seals through a clone, so they are enforced here.
  if (seals > 0 && (seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) != 0) {
    return denied("the file is sealed against writing; ask with --ro");
  }
  return schema::ok();
}

Result<Found> check_file(BorrowedFd fd) {
  MAPCAP_TRY(Found found, look_at(fd));
  bool local = false;
  for (const std::int64_t magic : kLocal) local = local || found.filesystem == magic;
  if (!local) {
    return schema::error(
        ErrorCode::unsupported,
        "files of this filesystem cannot be cloned: only local ones (tmpfs, memfd, ext4, XFS, btrfs, "
        "f2fs, bcachefs); copy the file there");
  }
  if (!S_ISREG(found.mode)) return schema::error(ErrorCode::invalid, "only a regular file can be cloned");
  if (found.size == 0) return schema::error(ErrorCode::invalid, "the file is empty: there is nothing to map");
  return found;
}

}  // namespace

FileClones::FileClones(confine::Keeper& keeper, Quotas& quotas, Worker& worker)
    : keeper_(keeper), quotas_(quotas), worker_(worker) {
  // A keeper that was adopted still knows the numbers of the broker before: begin where that one hardly was.
  const ssize_t filled = ::getrandom(&next_, sizeof next_, 0);
  MAPCAP_INVARIANT(filled == sizeof next_, "getrandom gave too little");
  next_ >>= 8U;
}

Task<Result<Delivery>> FileClones::clone(const policy::Subject& subject, schema::CloneFd ask, UniqueFd fd) {
  MAPCAP_CO_TRY_VOID(check_rights(fd.borrow(), ask.rights));
  auto looked = co_await worker_.run([file = fd.borrow()] { return check_file(file); });
  MAPCAP_CO_TRY(Found found, std::move(looked));
  const Amount one{0, 0, 1, 0};
  MAPCAP_CO_TRY(Charge charge, quotas_.reserve({subject.uid(), subject.gid(), ""}, one));

  const RegionId id{kCloneIds | next_++};
  const schema::ByteCount size{found.size};
  MAPCAP_CO_TRY_VOID(keeper_.clone().attach(id, fd.borrow(), size, confine::Backing::foreign));
  Undo detach([this, id] { keeper_.clone().detach(id); });
  confine::Label label;
  label.name = "file";
  label.size = size;
  label.rights = ask.rights;
  label.cache_requested = "wb";
  label.cache_effective = "wb";
  label.durability = "page block-device";
  label.confinement = "clone";
  label.holder_uid = subject.uid();
  MAPCAP_CO_TRY(confine::Issued issued, co_await keeper_.clone().issue(id, std::move(label)));
  detach.disarm();
  clones_.emplace(issued.grant, Clone{id, std::move(charge)});

  Delivery delivery;
  delivery.fd = std::move(issued.fd);
  schema::Granted granted;
  granted.rights = ask.rights;
  granted.with_fd = true;
  granted.region.name = "file";
  granted.region.size = size;
  granted.region.owner = subject.uid();
  granted.region.confinement = schema::Confinement::clone;
  granted.region.durability = {schema::Granularity::page, schema::PersistenceDomain::block_device, false};
  delivery.body = std::move(granted);
  co_return delivery;
}

void FileClones::restore(const confine::LiveGrant& grant) {
  if (grant.region.value < kCloneIds) return;
  const Amount one{0, 0, 1, 0};
  clones_.emplace(grant.grant,
                  Clone{grant.region, quotas_.restore({grant.holder_uid, grant.holder_uid, ""}, one)});
}

bool FileClones::released(confine::GrantId grant) {
  auto found = clones_.find(grant);
  if (found == clones_.end()) return false;
  keeper_.clone().detach(found->second.id);
  clones_.erase(found);
  return true;
}

void FileClones::forget_all() {
  clones_.clear();
}

}  // namespace mapcap::broker
