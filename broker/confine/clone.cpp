#include "broker/confine/clone.h"

#include <linux/fs.h>
#include <sys/ioctl.h>

#include <algorithm>

#include "broker/confine/label_blob.h"
#include "broker/confine/mount.h"

namespace mapcap::broker::confine {
namespace {

using schema::error;
using schema::ErrorCode;
using schema::Result;

/// Append-only keeps holders from punching holes through their writable mappings (madvise MADV_REMOVE) and
/// from an executable mapping by remap_file_pages. False where the filesystem has no such flag, or does not
/// let us.
bool set_append_flag(schema::BorrowedFd fd) {
  int flags = 0;
  // SAFETY: despite its declaration FS_IOC_GETFLAGS writes one int, and FS_IOC_SETFLAGS reads one. The others
  // are kept: on ext4 a cleared extents flag would mean a conversion.
  if (::ioctl(fd.get(), FS_IOC_GETFLAGS, &flags) != 0) return false;
  if ((flags & FS_APPEND_FL) != 0) return true;
  flags |= FS_APPEND_FL;
  return ::ioctl(fd.get(), FS_IOC_SETFLAGS, &flags) == 0;
}

}  // namespace

void CloneConfiner::connect(Connection connection) {
  device_ = std::move(connection.device);
  path_ = std::move(connection.path);
  next_grant_ = connection.next_grant;
}

void CloneConfiner::disconnect(std::string why) {
  unavailable_ = std::move(why);
  attached_.clear();  // Backing ids belong to the connection.
  granted_.clear();   // Nobody will tell of their end.
  path_.reset();
  device_.reset();
}

void CloneConfiner::begin_issuing(Loop& loop, std::chrono::nanoseconds deadline) {
  issuer_ = std::make_unique<Issuer>(loop, deadline);
}

void CloneConfiner::adopt_backing(schema::RegionId region, std::int32_t backing_id) {
  attached_[region.value] = Attached{backing_id, false, false};
}

void CloneConfiner::close_unclaimed() {
  std::vector<schema::RegionId> unclaimed;
  for (const auto& [region, attached] : attached_) {
    if (!attached.claimed) unclaimed.push_back(schema::RegionId{region});
  }
  for (const schema::RegionId region : unclaimed) detach(region);
}

void CloneConfiner::close_untold(std::int32_t last) {
  // The kernel hands ids out in ascending order, and a broker tells of each before it opens the next.
  constexpr std::int32_t most = 4;
  for (std::int32_t id = last + 1; id <= last + most; ++id) close_backing(device_.borrow(), id);
}

Result<void> CloneConfiner::attach(schema::RegionId region, schema::BorrowedFd fd, schema::ByteCount,
                                   Backing backing) {
  if (!path_) return error(ErrorCode::unavailable, unavailable_);
  const auto known = attached_.find(region.value);
  // Also when it is known: the flag may have been lost with a machine.
  const bool guarded = backing == Backing::carved && set_append_flag(fd);
  if (known != attached_.end()) {
    known->second.claimed = true;
    known->second.guarded = guarded;
    return schema::ok();
  }
  MAPCAP_TRY(const std::int32_t backing_id, open_backing(device_.borrow(), fd));
  if (!tell_({wire::Kind::backed, 0, region.value, static_cast<std::uint64_t>(backing_id)})) {
    close_backing(device_.borrow(), backing_id);
    return error(ErrorCode::unavailable, "the keeper does not answer; ask again");
  }
  attached_.emplace(region.value, Attached{backing_id, guarded, true});
  return schema::ok();
}

bool CloneConfiner::guards_holes(schema::RegionId region) const {
  const auto known = attached_.find(region.value);
  return known != attached_.end() && known->second.guarded;
}

Task<Result<Issued>> CloneConfiner::issue(schema::RegionId region, Label label) {
  if (!path_ || !issuer_) co_return error(ErrorCode::unavailable, unavailable_);
  const auto known = attached_.find(region.value);
  if (known == attached_.end()) {
    co_return error(ErrorCode::invalid,
                    "region " + std::to_string(region.value) + " is not attached to its confiner");
  }
  auto blob = encode_label(label);
  if (!blob) co_return blob.error();
  const std::shared_ptr<IssuePath> path = path_;
  const GrantId grant = next_grant_++;
  // A named value: g++ 12 destroys aggregate temporaries of a co_await expression twice.
  Opening opening{grant,        region,       known->second.backing_id, label.size,
                  label.rights, label.holder, std::move(blob.value())};
  Result<schema::UniqueFd> opened = co_await issuer_->open(path, std::move(opening));
  if (!opened) co_return opened.error();  // `this` may be gone by now.
  if (path != path_) {
    co_return error(ErrorCode::unavailable,
                    "the keeper was replaced while it was asked for a grant; ask again");
  }
  granted_.insert(grant);
  co_return Issued{std::move(opened.value()), grant};
}

void CloneConfiner::detach(schema::RegionId region) {
  const auto known = attached_.find(region.value);
  if (known == attached_.end()) return;
  // The kernel keeps the backing of nodes that are open; only the number goes.
  close_backing(device_.borrow(), known->second.backing_id);
  tell_({wire::Kind::unbacked, 0, region.value, 0});
  attached_.erase(known);
}

}  // namespace mapcap::broker::confine
