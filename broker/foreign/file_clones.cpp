#include "broker/foreign/file_clones.h"

#include <fcntl.h>
#include <sys/random.h>

#include <cerrno>

#include "base/newer_linux.h"

namespace mapcap::broker {

namespace {

Result<void> check_rights(BorrowedFd fd, Access rights) {
  const int flags = ::fcntl(fd.get(), F_GETFL);
  if (flags < 0) return io_error("reading the descriptor's flags", errno);
  const int mode = flags & O_ACCMODE;
  auto denied = [](const std::string& why) {
    return failure(ErrorCode::denied, "a clone gives no more than its file's descriptor does: " + why);
  };
  if ((flags & O_PATH) != 0) return denied("it was opened with O_PATH");
  if (mode == O_WRONLY) return denied("it was opened for writing only");
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

std::uint64_t FileClones::first_number() {
  // A keeper that was adopted still knows the numbers of the broker before: begin where that one hardly was.
  std::uint64_t number = 0;
  const ssize_t filled = ::getrandom(&number, sizeof number, 0);
  MAPCAP_INVARIANT(filled == sizeof number, "getrandom gave too little");
  return number >> 8U;
}

void FileClones::drop_port(SessionId session) {
  if (const auto port = ports_.extract(session)) examiner_.drop(port.mapped());
}

Task<Result<Delivery>> FileClones::open_port(SessionId session, std::uint32_t account) {
  drop_port(session);
  // Before the client has sent anything: a machine, or a broker, without clones has none later either.
  if (const std::string why = keeper_.clone_unavailable(); !why.empty())
    co_return failure(ErrorCode::unsupported, "files cannot be cloned here: " + why);
  MAPCAP_CO_TRY(FileExaminer::Port port, co_await examiner_.open_port(account));
  ports_[session] = port.number;
  Delivery delivery;
  delivery.body = schema::ClonePort{port.number};
  delivery.fd = std::move(port.client);
  co_return delivery;
}

Task<Result<Delivery>> FileClones::clone(SessionId session, const policy::Subject& subject,
                                         schema::CloneFd ask) {
  if (ask.ticket == 0) {
    co_return failure(ErrorCode::unsupported,
                      "a file that is to be cloned is sent to a port of its own, which this client does "
                      "not know: update its libmapcap");
  }
  const auto port = ports_.find(session);
  if (port == ports_.end() || port->second != ask.ticket) {
    co_return failure(ErrorCode::unavailable,
                      "the port that the file was sent to is gone; ask for another one", {{"port", "gone"}});
  }
  ports_.erase(port);
  MAPCAP_CO_TRY(const PassedFile file, co_await examiner_.examine(ask.ticket));
  MAPCAP_CO_TRY_VOID(check_rights(file.fd.borrow(), ask.rights));
  const Amount one{0, 0, 1, 0};
  MAPCAP_CO_TRY(Charge charge,
                quotas_.reserve({subject.uid(), subject.shared_groups(), "", subject.user()}, one));

  const RegionId id{confine::kForeignIds | next_++};
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
  granted.region.size = size.value;
  granted.region.owner = subject.uid();
  granted.region.confinement = Confinement::clone;
  granted.region.durability = {Granularity::page, PersistenceDomain::block_device, false};
  delivery.body = std::move(granted);
  co_return delivery;
}

void FileClones::restore(const confine::LiveGrant& grant) {
  if (grant.region.value < confine::kForeignIds) return;
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
