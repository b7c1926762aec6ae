// What the confiners without a keeper have in common: a table of regions, and issuing that never waits.
#pragma once

#include <string>
#include <unordered_map>

#include "broker/confine/confiner.h"
#include "broker/confine/reopen.h"

namespace mapcap::broker::confine {

/// Loop only.
class UntrackedConfiner : public Confiner {
 public:
  [[nodiscard]] bool tracks_grants() const override { return false; }
  [[nodiscard]] bool guards_holes(RegionId) const override { return false; }

  Result<void> attach(RegionId region, BorrowedFd fd, ByteCount, Backing backing = Backing::carved) override {
    MAPCAP_TRY_VOID(admit(fd, backing));
    return keep(region, fd);
  }

  Task<Result<Issued>> issue(RegionId region, Label label, BorrowedFd memory = {},
                             Backing backing = Backing::carved) override {
    if (memory.valid()) {
      MAPCAP_CO_TRY_VOID(attach(region, memory, label.size, backing));
    }
    const auto known = attached_.find(region.value);
    if (known == attached_.end()) {
      co_return failure(ErrorCode::invalid,
                        "region " + std::to_string(region.value) + " is not attached to its confiner");
    }
    auto fresh = open(known->second.borrow(), label.rights);
    if (!fresh) co_return fresh.error();
    co_return Issued{std::move(fresh.value()), 0};
  }

  void detach(RegionId region) override { attached_.erase(region.value); }

 protected:
  /// What attach() does with memory that was admitted.
  Result<void> keep(RegionId region, BorrowedFd fd) {
    if (attached_.contains(region.value)) return ok();
    MAPCAP_TRY(Fd own, hold(fd));
    attached_.emplace(region.value, std::move(own));
    return ok();
  }
  /// Whether this kind of memory can be confined so; may prepare it.
  virtual Result<void> admit(BorrowedFd fd, Backing backing) = 0;
  /// The confiner's own descriptor of the memory, which open() is given.
  virtual Result<Fd> hold(BorrowedFd fd) { return duplicate(fd); }
  virtual Result<Fd> open(BorrowedFd fd, Access rights) = 0;
  [[nodiscard]] bool attached(RegionId region) const { return attached_.contains(region.value); }

 private:
  std::unordered_map<std::uint64_t, Fd> attached_;  ///< By region.
};

}  // namespace mapcap::broker::confine
