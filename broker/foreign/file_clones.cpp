#include "broker/foreign/file_clones.h"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>

#include <cerrno>

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

namespace mapcap::broker {

namespace {

/// Regions of the ledger count up from 1; clones of files live in the other half of the number space.
constexpr std::uint64_t kCloneIds = 1ULL << 63U;

Result<void> check_rights(BorrowedFd fd, Access rights, std::uint32_t uid) {
  const int flags = ::fcntl(fd.get(), F_GETFL);
  if (flags < 0) return io_error("reading the descriptor's flags", errno);
  const int mode = flags & O_ACCMODE;
  auto denied = [](const std::string& why) {
    return failure(ErrorCode::denied, "a clone gives no more than its file's descriptor does: " + why);
  };
  if ((flags & O_PATH) != 0) return denied("it was opened with O_PATH");
  if (mode == O_WRONLY) return denied("it was opened for writing only");
  if (mode == O_RDONLY) {
    // To make a clone the kernel opens the file for writing, whatever the rights, and meanwhile nobody can
    // run it (ETXTBSY).
    struct stat status {};
    if (::fstat(fd.get(), &status) != 0) return io_error("fstat of a file to clone", errno);
    if (status.st_uid != uid && (status.st_mode & (S_IXUSR | S_IXGRP | S_IXOTH)) != 0)
      return denied(
          "it is somebody else's program, which others could not run while it is cloned; clone a copy");
  }
  if (rights == Access::read_only) return ok();
  if (mode != O_RDWR) return denied("it was opened for reading only; ask with --ro");
  if ((flags & O_APPEND) != 0) return denied("it may only append; ask with --ro");
  const int seals = ::fcntl(fd.get(), F_GET_SEALS);
  // The kernel does not enforce write seals through a clone, so they are enforced here.
  if (seals > 0 && (seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) != 0) {
    return denied("the file is sealed against writing; ask with --ro");
  }
  // Nor would it know of a clone when a write seal is added, and whoever trusts that seal would be deceived.
  if (seals >= 0 && (seals & F_SEAL_SEAL) == 0) {
    return denied("it may still be sealed against writing; add F_SEAL_SEAL first, or ask with --ro");
  }
  return ok();
}

}  // namespace

FileClones::FileClones(keeper::Keeper& keeper, Quotas& quotas, Loop& loop, Worker& worker)
    : keeper_(keeper), quotas_(quotas), examiner_(loop, worker) {
  // A keeper that was adopted still knows the numbers of the broker before: begin where that one hardly was.
  const ssize_t filled = ::getrandom(&next_, sizeof next_, 0);
  MAPCAP_INVARIANT(filled == sizeof next_, "getrandom gave too little");
  next_ >>= 8U;
}

Task<Result<Delivery>> FileClones::clone(const policy::Subject& subject, schema::CloneFd ask,
                                         BorrowedFd socket) {
  MAPCAP_CO_TRY(const PassedFile file, co_await examiner_.examine(quotas_.account_of(subject.uid()), socket));
  MAPCAP_CO_TRY_VOID(check_rights(file.fd.borrow(), ask.rights, subject.uid()));
  const Amount one{0, 0, 1, 0};
  MAPCAP_CO_TRY(Charge charge,
                quotas_.reserve({subject.uid(), subject.shared_groups(), "", subject.user()}, one));

  const RegionId id{kCloneIds | next_++};
  const ByteCount size = file.size;
  Undo detach([this, id] { keeper_.clone().detach(id); });
  confine::Label label;
  label.name = "file";
  label.size = size;
  label.rights = ask.rights;
  label.cache_requested = "wb";
  label.cache_effective = "wb";
  label.durability = "page block-device";
  label.confinement = "clone";
  label.holder = {subject.uid(), subject.gid()};
  MAPCAP_CO_TRY(confine::Issued issued, co_await keeper_.clone().issue(id, std::move(label), file.fd.borrow(),
                                                                       confine::Backing::foreign));
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
  granted.region.confinement = Confinement::clone;
  granted.region.durability = {Granularity::page, PersistenceDomain::block_device, false};
  delivery.body = std::move(granted);
  co_return delivery;
}

void FileClones::restore(const confine::LiveGrant& grant) {
  if (grant.region.value < kCloneIds) return;
  const Amount one{0, 0, 1, 0};
  clones_.emplace(grant.grant,
                  Clone{grant.region, quotas_.restore({grant.holder.uid, grant.holder.gid, ""}, one)});
}

std::optional<std::uint32_t> FileClones::holder_of(confine::GrantId grant) const {
  const auto found = clones_.find(grant);
  if (found == clones_.end()) return std::nullopt;
  return found->second.charge.payer();
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
