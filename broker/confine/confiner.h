// A confiner turns a region's memory into descriptors that can be mmapped and nothing else.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/units.h"
#include "broker/confine/blank.h"
#include "broker/wait/task.h"
#include "mapcap/fd.h"
#include "mapcap/words.h"

namespace mapcap::broker::confine {

/// Identifies one issued descriptor for as long as it, or a mapping of it, lives. 0: not tracked by the
/// kernel.
using GrantId = std::uint64_t;

/// Whom a grant was issued to: who pays for it, also after a restart of the broker.
struct Holder {
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  bool operator==(const Holder&) const = default;
};

/// What a grant says of itself in its system.mapcap.* attributes.
struct Label {
  std::string name;
  ByteCount size;
  Access rights = Access::read_only;
  std::string cache_requested;
  std::string cache_effective;
  std::string durability;
  std::string confinement;
  Holder holder;
  std::int64_t published_unix_ns = 0;  ///< 0: the region is not published.
};

struct Issued {
  Fd fd;  ///< A fresh open file description: shares no offset, flags or locks with other grants.
  GrantId grant = 0;
};

/// One of the grants that outlived an earlier broker.
struct LiveGrant {
  GrantId grant = 0;
  RegionId region;
  Access rights = Access::read_only;
  Holder holder;
};

/// Regions of the ledger count up from 1; files of other people have ids from here on.
inline constexpr std::uint64_t kForeignIds = 1ULL << 63U;

/// Whose file it is that a confiner is given.
enum class Backing : std::uint8_t {
  carved,   ///< Of a pool: the confiner may set inode flags on it (append-only; Pool::cut clears them).
  foreign,  ///< Somebody else's file: stays as it is.
};

class Confiner {
 public:
  virtual ~Confiner() = default;
  [[nodiscard]] virtual Confinement kind() const = 0;
  /// True when release events come from the kernel; otherwise reclaim probes (Pool::held).
  [[nodiscard]] virtual bool tracks_grants() const = 0;

  /// Prepares a region's memory for issuing; issue() does it by itself where it is given the memory. `fd` is
  /// only used during the call. Idempotent, also across a restart of the broker. Whoever needs a mapping or a
  /// truncation of a carved file does it before: the append flag forbids both. Errors: `unsupported` for a
  /// backing that this confiner cannot confine, `io`, `unavailable`.
  virtual Result<void> attach(RegionId region, BorrowedFd fd, ByteCount size,
                              Backing backing = Backing::carved) = 0;

  /// Whether holders of a writable grant are kept from punching holes by madvise(MADV_REMOVE): false where
  /// the backing's filesystem has no append flag, for foreign files, and for regions that are not attached.
  [[nodiscard]] virtual bool guards_holes(RegionId region) const = 0;

  /// Issues one descriptor with the label's rights. `memory`, the region's, stays open until the answer: with
  /// it the region is attached where it is not, again too when a keeper dies meanwhile; without, it must have
  /// been. The answer is final: what a keeper's death makes impossible for a moment is waited for. Errors:
  /// `timed_out`, `unavailable` (no keeper in time), `exhausted`, `io`, `busy` (a foreign file that cannot be
  /// opened now), `unsupported` (rights, or a backing, that cannot be issued), `invalid` (not attached).
  virtual Task<Result<Issued>> issue(RegionId region, Label label, BorrowedFd memory = {},
                                     Backing backing = Backing::carved) = 0;

  // What is made ahead; a confiner that makes nothing ahead has nothing of it.

  /// One that is ready, with a grant of these rights; nothing where there is none, which is remembered. May begin to
  /// make more, off the loop.
  virtual std::optional<Blank> take_blank(const BlankSource& /*source*/, Access /*rights*/) {
    return std::nullopt;
  }
  /// Once the memory, which `memory` is, has its size: from here on the grant says that of itself, and the region is
  /// attached. Before it is recorded, since what has no name ends with the broker. Errors: `unavailable` when the keeper
  /// that it was made through is gone: then issue() makes a grant; `invalid`.
  virtual Result<void> name_blank(Blank& /*blank*/, BorrowedFd /*memory*/, const Label& /*label*/) {
    return failure(ErrorCode::unavailable, "nothing is made ahead");
  }
  /// The grant of one that has its name, in the place of issue(); nothing when its keeper is gone by now.
  virtual std::optional<Issued> issue_blank(Blank& /*blank*/) { return std::nullopt; }
  /// What is ready now, and what was used so far.
  struct Ahead {
    std::uint64_t blanks = 0;
    std::uint64_t blanks_used = 0;
    std::uint64_t opens = 0;
    std::uint64_t opens_used = 0;
  };
  [[nodiscard]] virtual Ahead ahead() const { return {}; }
  /// issue() may have made more read-only grants of the region than were asked for, which nobody has, and which it gives to
  /// whoever asks next: they are let go of, also those that are under way. For when the region is no longer what it was.
  virtual void drop_ready(RegionId /*region*/) {}

  /// Grants of the region that are out, where they describe themselves, say from now on that nobody can write it: when
  /// it returns, unless whoever answers for them is late. Those that are to come bring it along (Label). Only after that
  /// is so, and recorded.
  virtual Task<void> tell_published(RegionId /*region*/, std::int64_t /*unix_ns*/) { co_return; }

  /// Undoes attach. Grants that are out stay what they are; they hold the memory, not the region.
  virtual void detach(RegionId region) = 0;
};

}  // namespace mapcap::broker::confine
