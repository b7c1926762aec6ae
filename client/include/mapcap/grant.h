// One fd with rights, handed out for one region.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "mapcap/api.h"
#include "mapcap/fd.h"
#include "mapcap/types.h"

namespace mapcap {

/// What a grant's own extended attributes (system.mapcap.*) say, read from the fd without the broker.
struct Description {
  std::string name;
  std::uint64_t size = 0;
  Access rights = Access::read_only;
  CacheMode cache_requested = CacheMode::write_back;
  CacheMode cache_effective = CacheMode::write_back;
  CacheMechanism cache_mechanism = CacheMechanism::page_attribute;
  Durability durability;
  Confinement confinement = Confinement::sealed;
  /// Since when nobody can write the region (since 1970-01-01 UTC): true at any time that it is said. Absent: it is not
  /// published, or the process that answers for the grant is of an earlier version.
  std::optional<std::chrono::nanoseconds> published_unix;
};

/// Reads a grant's self-description. Absent when the fd has none: sealed, lsm and native grants are bare
/// files and devices, and so is anything that is no grant. The fd stays the caller's. Errors: `io` (EBADF and
/// the like), `malformed` for attributes that make no sense.
MAPCAP_API std::optional<Description> describe(int fd);

/// Owns a granted fd. The fd can be mmapped (MAP_SHARED, from offset 0, info().size bytes) and passed on;
/// under a confinement other than `sealed` nothing else works on it. It is CLOEXEC.
class MAPCAP_API Grant {
 public:
  Grant(Fd fd, Access rights, RegionInfo info);

  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] Access rights() const { return rights_; }
  /// The region as it was when the grant was issued. For a grant that came from another process only what
  /// describe() knows is filled in.
  [[nodiscard]] const RegionInfo& info() const { return info_; }
  [[nodiscard]] std::uint64_t size() const { return info_.size; }

  /// Takes over an fd that somebody else was granted: inherited, or received over a socket.
  /// Works for fds without a self-description too: then size and durability are found out from the file
  /// itself. Errors: `invalid` when the fd cannot be mapped, `io`.
  static Grant adopt(Fd fd);

  /// Gives the fd up; the caller closes.
  [[nodiscard]] int release() && { return fd_.release(); }

  /// Passes a copy of the grant to whoever is at the other end of a connected Unix socket, as one message of
  /// one byte with SCM_RIGHTS. The receiver gets the same open file: same rights. Errors: `io`.
  void send(int unix_socket) const;
  /// Takes a grant that send() passed. Blocks as the socket does. Errors: `unavailable` when the peer closed,
  /// `malformed` when no descriptor, or more than one, came; `io`.
  static Grant receive(int unix_socket);

 private:
  Fd fd_;
  Access rights_;
  RegionInfo info_;
};

}  // namespace mapcap
