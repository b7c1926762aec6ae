// What a region of memory needs is reserved when it is created (promise 4), or refused there, by the name of
// the limit that it meets.
//
// A memfd's pages are accounted when they are touched. With vm.overcommit_memory = 0 and 1 that never fails:
// whoever touches a page when no memory is left meets the OOM killer, as with any other memory. With 2 the
// kernel refuses what is beyond the commit limit, and for a page of a shared mapping that is a SIGBUS of the
// holder. So under 2 every page is allocated at create. A sparse region then costs what it could come to;
// that is what strict accounting means.
//
// Allocating for a client must not get anybody killed: where the machine's memory or a memory cgroup of the
// broker has no room for the next step, the create is refused before the kernel would look for a victim.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <string>

#include "base/result.h"
#include "base/units.h"
#include "mapcap/fd.h"

namespace mapcap::broker::pool {

class Reservation {
 public:
  /// Bytes done of bytes to do.
  using Progress = std::function<void(ByteCount done, ByteCount total)>;

  /// Where the kernel's own filesystems are seen; tests have directories of their own.
  struct Places {
    std::string proc = "/proc";
    std::string cgroups = "/sys/fs/cgroup";
  };
  Reservation() : Reservation(Places()) {}
  explicit Reservation(Places places);

  /// vm.overcommit_memory is 2, or was a tenth of a second ago: an administrator may change it while the broker runs, and
  /// nothing tells. Regions that were made a moment after that are as those from a moment before. Any thread.
  [[nodiscard]] bool strict() const;

  /// Allocates the pages of [0, size), a piece at a time. Errors: `pool_full`, by the name of the limit
  /// (details: limit_name, and where known limit, used, asked); `io`.
  [[nodiscard]] Result<void> allocate(BorrowedFd fd, ByteCount size, const Progress& progress) const;

  /// Whether allocate(), and nobody's hole since, gave it all its pages.
  [[nodiscard]] static bool complete(BorrowedFd fd, ByteCount size);

  /// Zeroes without giving a page back: who still has the region can touch it under strict accounting too.
  /// Errors: `io`.
  [[nodiscard]] static Result<void> zero_in_place(BorrowedFd fd, ByteCount size);

  /// Whether all of it is mapped by huge pages; collapses what is not yet, where the machine has one free.
  /// Errors: `pool_full` when it has none, `io`.
  [[nodiscard]] Result<void> make_huge(BorrowedFd fd, ByteCount size) const;

 private:
  [[nodiscard]] bool strict_now() const;
  [[nodiscard]] Result<void> check_room(ByteCount step, ByteCount asked) const;
  [[nodiscard]] Failure refused_by_kernel(int errno_value, ByteCount asked) const;

  Places places_;
  Fd overcommit_;
  mutable std::atomic<bool> strict_{false};
  mutable std::atomic<std::chrono::nanoseconds> asked_{std::chrono::nanoseconds::min() /
                                                       2};  ///< steady_clock
};

}  // namespace mapcap::broker::pool
