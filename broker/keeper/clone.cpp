#include "broker/keeper/clone.h"

#include <linux/fs.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <span>

#include "broker/keeper/device.h"
#include "broker/keeper/forge.h"
#include "broker/keeper/label_blob.h"

namespace mapcap::broker::keeper {
namespace {

/// Append-only keeps holders from punching holes through their writable mappings (madvise MADV_REMOVE) and
/// from an executable mapping by remap_file_pages. False where the filesystem has no such flag, or does not
/// let us.
bool set_append_flag(BorrowedFd fd) {
  int flags = 0;
  // SAFETY: despite its declaration FS_IOC_GETFLAGS writes one int, and FS_IOC_SETFLAGS reads one. The others
  // are kept: on ext4 a cleared extents flag would mean a conversion.
  if (::ioctl(fd.get(), FS_IOC_GETFLAGS, &flags) != 0) return false;
  if ((flags & FS_APPEND_FL) != 0) return true;
  flags |= FS_APPEND_FL;
  return ::ioctl(fd.get(), FS_IOC_SETFLAGS, &flags) == 0;
}

/// What may be the keeper's end, rather than what is asked for: the next one may do it.
bool is_the_keepers(const Failure& failed) {
  return failed.code == ErrorCode::unavailable || failed.code == ErrorCode::io;
}

/// The kernel says EIO, whatever keeps it from opening the file behind a clone (issuer.cpp).
Failure not_opened_behind() {
  return failure(
      ErrorCode::busy,
      "the file cannot be opened behind its clone now: somebody has a lease on it (fcntl F_SETLEASE); "
      "clone a copy of it, or ask again");
}

}  // namespace

CloneConfiner::CloneConfiner(KeeperLink& keeper, std::shared_ptr<Forge> forge)
    : keeper_(keeper), forge_(std::move(forge)), device_(std::make_shared<Device>()) {}

void CloneConfiner::connect(Connection connection) {
  device_ = std::make_shared<Device>(std::move(connection.device));
  path_ = std::move(connection.path);
  path_->device = device_;
  next_grant_ = connection.next_grant;
}

void CloneConfiner::disconnect(std::string why, Lasts lasts) {
  unavailable_ = std::move(why);
  lasts_ = lasts;
  end_blanks();
  attached_.clear();  // Backing ids belong to the connection.
  detached_.clear();
  granted_.clear();  // Nobody will tell of their end.
  path_.reset();
  // With the connection go its backing ids.
  if (closing_) {
    closing_->run([device = device_] { device->end(); });
  } else {
    device_->end();
  }
  device_ = std::make_shared<Device>();
}

void CloneConfiner::begin_issuing(Loop& loop, std::chrono::nanoseconds deadline) {
  patience_ = deadline;
  loop_ = &loop;
  issuer_ = std::make_unique<Issuer>(loop, deadline);
  closing_ = std::make_unique<Closing>(loop);
}

void CloneConfiner::adopt_backing(RegionId region, std::int32_t backing_id) {
  attached_[region.value] = Attached{backing_id, false, false};
}

void CloneConfiner::close_unclaimed() {
  std::vector<RegionId> unclaimed;
  for (const auto& [region, attached] : attached_) {
    if (!attached.claimed) unclaimed.push_back(RegionId{region});
  }
  for (const RegionId region : unclaimed) detach(region);
}

bool CloneConfiner::detach_some(const std::function<bool(RegionId)>& kept) {
  constexpr std::size_t kMost = 32;
  std::vector<RegionId> some;
  for (const auto& [region, attached] : attached_) {
    if (kept(RegionId{region})) continue;
    if (some.size() == kMost) break;
    some.push_back(RegionId{region});
  }
  for (const RegionId region : some) detach(region);
  return some.size() == kMost;
}

void CloneConfiner::close_untold(std::int32_t last) {
  // The kernel hands ids out in ascending order. A broker tells of each before it opens the next, but for that of a
  // blank, which the keeper learns when that is opened: meanwhile it may have told of as many later ones as the socket has room for.
  constexpr std::int32_t before = 300;
  constexpr std::int32_t after =
      32;  // As many as are registered together, before the first is opened, and more.
  std::unordered_set<std::int32_t> told;
  for (const auto& [region, attached] : attached_) told.insert(attached.backing_id);
  for (std::int32_t id = std::max(last - before, 1); id <= last + after; ++id) {
    if (!told.contains(id)) detached_.push_back(id);
  }
  close_backings();
}

void CloneConfiner::close_backings() {
  if (detached_.empty()) return;
  forge_->close_backings(device_->fd.borrow(), detached_);
  detached_.clear();
}

Result<void> CloneConfiner::attach(RegionId region, BorrowedFd fd, ByteCount, confine::Backing backing) {
  if (!path_) return failure(ErrorCode::unavailable, unavailable_);
  // Also when it is known: the flag may have been lost with a machine.
  return attach_as(region, fd, backing == confine::Backing::carved && set_append_flag(fd));
}

/// `unavailable`: the keeper cannot be told now.
Result<void> CloneConfiner::attach_as(RegionId region, BorrowedFd fd, bool guarded) {
  const auto known = attached_.find(region.value);
  if (known != attached_.end()) {
    known->second.claimed = true;
    known->second.guarded = guarded;
    return ok();
  }
  MAPCAP_TRY(const std::int32_t backing_id, forge_->open_backing(device_->fd.borrow(), fd));
  if (!keeper_.tell({wire::Kind::backed, 0, region.value, static_cast<std::uint64_t>(backing_id)})) {
    forge_->close_backings(device_->fd.borrow(), std::span(&backing_id, 1));
    return failure(ErrorCode::unavailable, "the keeper does not answer; ask again");
  }
  attached_.emplace(region.value, Attached{backing_id, guarded, true});
  return ok();
}

bool CloneConfiner::guards_holes(RegionId region) const {
  const auto known = attached_.find(region.value);
  return known != attached_.end() && known->second.guarded;
}

Task<Result<confine::Issued>> CloneConfiner::issue(RegionId region, confine::Label label, BorrowedFd memory,
                                                   confine::Backing backing) {
  const KeeperLink::Time until = keeper_.now() + patience_;
  auto blob = encode_label(label);
  if (!blob) co_return blob.error();
  if (!memory.valid() && !attached_.contains(region.value)) {
    co_return failure(ErrorCode::invalid,
                      "region " + std::to_string(region.value) + " is not attached to its confiner");
  }
  if (backing == confine::Backing::carved && label.rights == Access::read_only) {
    if (std::optional<confine::Issued> ready = take_ready(region, label, blob.value()))
      co_return std::move(*ready);
  }
  // Now, and not when the next keeper serves: by then the region may have been cut, which ends the flag. While it is live
  // nobody takes off what was set.
  const bool guarded = memory.valid() && backing == confine::Backing::carved &&
                       (guards_holes(region) || set_append_flag(memory));
  // This confiner may be gone whenever a wait ends.
  const std::weak_ptr<const bool> life = life_;
  KeeperLink& keeper = keeper_;
  Failure failed = failure(ErrorCode::unavailable, unavailable_);
  for (;;) {
    const std::shared_ptr<IssuePath> path = path_;
    if (path && issuer_) {
      Result<void> attached = ok();
      if (memory.valid()) attached = attach_as(region, memory, guarded);
      if (!attached && attached.error().code != ErrorCode::unavailable) co_return attached.error();
      if (const auto known = attached_.find(region.value); known != attached_.end() && attached) {
        const confine::GrantId grant = next_grant_++;
        // A named value: g++ 12 destroys aggregate temporaries of a co_await expression twice.
        Opening opening{grant,        region,       known->second.backing_id, label.size,
                        label.rights, label.holder, label.published_unix_ns,  blob.value()};
        Result<Fd> opened = co_await issuer_->open(path, std::move(opening));
        if (life.expired()) co_return failure(ErrorCode::unavailable, "mapcapd is shutting down");
        if (opened && path == path_) {
          granted_.insert(grant);
          co_return confine::Issued{std::move(opened.value()), grant};
        }
        if (!opened && !is_the_keepers(opened.error())) co_return opened.error();
        if (!opened) failed = opened.error();
        if (!opened && opened.error().code == ErrorCode::io) {
          // Its end, or the file behind the clone? A keeper that still answers did not end.
          const bool same = co_await keeper.answers(until);
          if (life.expired()) co_return failed;
          if (same) co_return backing == confine::Backing::foreign ? not_opened_behind() : failed;
        }
      } else {
        failed = attached ? failure(ErrorCode::unavailable, unavailable_) : attached.error();
      }
    } else {
      failed = failure(ErrorCode::unavailable, unavailable_);
      if (lasts_ == Lasts::yes) co_return failed;
    }
    if (!memory.valid() || keeper.now() >= until) co_return failed;
    if (path_ && path_ != path) continue;  // The next keeper was quicker than the news of the last one's end.
    const bool still = co_await keeper.wait(until);
    if (!still) co_return failed;
  }
}

/// A keeper that is replaced meanwhile has none of the grants that it would be about: nobody answers for those any more.
Task<void> CloneConfiner::tell_published(RegionId region, std::int64_t unix_ns) {
  drop_ready(region);  // Those that are under way may say otherwise.
  if (!keeper_.tell({wire::Kind::published, 0, region.value, static_cast<std::uint64_t>(unix_ns)})) co_return;
  // It reads what it is told in order.
  (void)co_await keeper_.answers(keeper_.now() + patience_);
}

void CloneConfiner::detach(RegionId region) {
  drop_ready(region);
  const auto known = attached_.find(region.value);
  if (known == attached_.end()) return;
  // The kernel keeps the backing of nodes that are open; only the number goes.
  const std::int32_t backing_id = known->second.backing_id;
  if (region.value >= confine::kForeignIds && closing_) {
    closing_->run([device = device_, forge = forge_, backing_id] {
      forge->bury_backing(device->fd.borrow(), backing_id);
    });
  } else {
    detached_.push_back(backing_id);
  }
  attached_.erase(known);
  keeper_.unbacked(region);
}

}  // namespace mapcap::broker::keeper
