// The broker's descriptor of one keeper's FUSE connection: the loop's and, for what is made ahead, a thread's.
#pragma once

#include <cstdint>
#include <mutex>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "broker/keeper/forge.h"
#include "broker/keeper/fuse/mount.h"
#include "mapcap/fd.h"

namespace mapcap::broker::keeper {

struct Device {
  Device() = default;
  explicit Device(Fd one) : fd(std::move(one)) {}

  /// Off the loop. Errors: of Forge::open_backings; `unavailable` when the connection has ended.
  Result<std::vector<std::int32_t>> open_backings_beside(Forge& forge, std::span<const BorrowedFd> files) {
    // Not by a descriptor of its own: the connection must end, and hanging opens with it, whatever a thread does.
    const std::lock_guard lock(ending);
    if (!fd.valid()) return failure(ErrorCode::unavailable, "the FUSE connection has ended; ask again");
    return forge.open_backings(fd.borrow(), files);
  }

  /// keeper::forget_name. Its errors.
  Result<void> forget_name(std::string_view name) {
    const std::lock_guard held(ending);
    if (!fd.valid()) return failure(ErrorCode::unavailable, "the FUSE connection has ended; ask again");
    return keeper::forget_name(fd.borrow(), name);
  }

  void end() {
    const std::lock_guard lock(ending);
    fd.reset();
  }

  Fd fd;
  std::mutex ending;
};

}  // namespace mapcap::broker::keeper
