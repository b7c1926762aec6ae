// A confiner turns a region's memory into descriptors that can be mmapped and nothing else.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "broker/task.h"
#include "schema/request.h"
#include "schema/unique_fd.h"

namespace mapcap::broker::confine {

/// Identifies one issued descriptor for as long as it, or a mapping of it, lives. 0: not tracked by the kernel.
using GrantId = std::uint64_t;

/// What a grant says of itself in its system.mapcap.* attributes.
struct Label {
  std::string name;
  schema::ByteCount size;
  schema::Access rights = schema::Access::read_only;
  std::string cache_requested;
  std::string cache_effective;
  std::string durability;
  std::string confinement;
  std::uint32_t holder_uid = 0;  ///< Whom it was issued to; for accounting after a restart of the broker.
};

struct Issued {
  schema::UniqueFd fd;  ///< A fresh open file description: shares no offset, flags or locks with other grants.
  GrantId grant = 0;
};

/// One of the grants that outlived an earlier broker.
struct LiveGrant {
  GrantId grant = 0;
  schema::RegionId region;
  schema::Access rights = schema::Access::read_only;
  std::uint32_t holder_uid = 0;
};

class Confiner {
 public:
  virtual ~Confiner() = default;
  [[nodiscard]] virtual schema::Confinement kind() const = 0;
  /// True when release events come from the kernel; otherwise reclaim probes (Pool::held).
  [[nodiscard]] virtual bool tracks_grants() const = 0;

  /// Prepares a region's memory for issuing. `fd` is borrowed until detach. Idempotent.
  /// Errors: `unsupported` for a backing that this confiner cannot confine, `io`, `unavailable`.
  virtual schema::Result<void> attach(schema::RegionId region, schema::BorrowedFd fd, schema::ByteCount size) = 0;

  /// Issues one descriptor with the given rights. Errors: `timed_out`, `unavailable`, `exhausted`, `io`.
  virtual Task<schema::Result<Issued>> issue(schema::RegionId region, Label label) = 0;

  /// Undoes attach, after the last grant is gone (or when the region is being given up).
  virtual void detach(schema::RegionId region) = 0;
};

}  // namespace mapcap::broker::confine
