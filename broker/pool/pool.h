// A pool turns one backing device into regions. It owns no policy, no quota and no record: it carves and
// frees.
//
// Calls may block for as long as the device takes; the regions code runs them on the worker unless quick()
// says otherwise. A pool is used from one thread at a time for one region, but from several for different
// regions.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_set>
#include <variant>
#include <vector>

#include "base/result.h"
#include "base/units.h"
#include "broker/ledger/table/record.h"
#include "mapcap/fd.h"
#include "mapcap/words.h"

namespace mapcap::broker::pool {

class Pool;

/// What the ledger's records name; those of all pools, since a pool may have been given
/// another's place.
struct Recorded {
  std::unordered_set<std::uint64_t> words;  ///< RegionRecord::extent
  bool complete = true;                     ///< False when the ledger found damaged records.

  [[nodiscard]] bool contains(std::uint64_t word) const { return words.contains(word); }
};

/// A region's memory. Until keep() is called, destroying it gives the memory back to its pool
/// (Pool::discard), so a verb that fails after carving undoes the carving by itself. After keep(), memory
/// goes back only through reclaim.
class Extent {
 public:
  Extent() = default;
  Extent(Pool& pool, Fd fd, ByteCount size, std::uint64_t word)
      : pool_(&pool), fd_(std::move(fd)), size_(size), word_(word) {}
  Extent(Extent&& other) noexcept;
  Extent& operator=(Extent&& other) noexcept;
  ~Extent();

  [[nodiscard]] BorrowedFd fd() const { return fd_.borrow(); }
  [[nodiscard]] ByteCount size() const { return size_; }
  /// What the pool needs to find the memory again: goes into RegionRecord::extent.
  [[nodiscard]] std::uint64_t word() const { return word_; }
  [[nodiscard]] Pool& pool() const { return *pool_; }
  [[nodiscard]] bool empty() const { return pool_ == nullptr; }
  /// From now on only Pool::free gives the memory back.
  void keep() { kept_ = true; }
  /// For pools, and for reclaim where Pool::shares_description.
  [[nodiscard]] Fd take_fd() { return std::move(fd_); }

 private:
  Pool* pool_ = nullptr;
  Fd fd_;
  ByteCount size_;
  std::uint64_t word_ = 0;
  bool kept_ = false;
};

/// What a policy says of a pool's size: bytes, or percent of the whole; absent: all of it.
using Wanted = std::optional<std::variant<ByteCount, std::uint32_t>>;

/// What does not change while the pool is open. (What a reload changes of it, its owner knows: ServedPool.)
struct Facts {
  std::string name;
  std::string backing;  ///< "memory", "dax-file", "dax-device", "pci-bar"
  ByteCount capacity;
  ByteCount granule{kPageSize};        ///< Sizes are rounded up to a multiple of it.
  std::vector<SealKind> seals;         ///< Allowed; the first is the default.
  std::vector<CacheMode> cache_modes;  ///< Obtainable; the first is the backing's natural one.
  CacheMechanism cache_mechanism = CacheMechanism::page_attribute;
  bool cache_verified = false;
  Durability durability;
  /// Irrevocable memory only: how long a revoke waits for holders before it ends them. Absent: it fails
  /// while there are any.
  std::optional<std::chrono::nanoseconds> end_holders_after;
  bool volatile_memory =
      true;  ///< Contents live only as long as a descriptor does: the keeper must hold one.
  /// Memory that is missing at one start may be there at a later one, as it was: on a filesystem that was not
  /// mounted, a device that was disabled.
  bool may_return = false;
};

/// `exists`, for what stays in `place` because no record of this ledger names it. `names`: not empty.
Failure nobodys(const std::string& place, std::string_view what, const std::vector<std::string>& names);

struct Carving {
  RegionId id;
  ByteCount size;  ///< Already rounded to the granule.
  SealKind seal = SealKind::sealed;
  CacheMode cache = CacheMode::write_back;  ///< One of Facts::cache_modes.
};

/// Reads from the page table how mappings of a file are cached: broker/page_attribute, or nothing.
using CacheReader = std::function<Result<CacheMode>(BorrowedFd)>;

/// Puts what the reader says of `file` into the facts: what is so, not what should be. Where it cannot tell,
/// the facts stay unverified.
void verify_cache(const CacheReader& reader, BorrowedFd file, Facts& facts);

/// Ledger::identity() in the names of what a pool makes: "1badcafe".
std::string tag_of(std::uint32_t ledger);

/// Bytes done of bytes to do, from the worker's thread.
using Progress = std::function<void(ByteCount done, ByteCount total)>;

class Pool {
 public:
  virtual ~Pool() = default;
  [[nodiscard]] virtual const Facts& facts() const = 0;

  /// True when carve takes microseconds, and cut and free do as long as nobody was given a descriptor: then
  /// they run on the loop itself. What holders may have touched never does: what that costs is their choice.
  [[nodiscard]] virtual bool quick() const = 0;

  /// What a region that was asked for with this size would have, and be charged: a multiple of the granule,
  /// or the size of the smallest device that fits. Errors: `pool_full` when no device does.
  virtual Result<ByteCount> size_for(ByteCount asked, CacheMode) {
    const std::uint64_t granule = facts().granule.value;
    return ByteCount{(asked.value + granule - 1) / granule * granule};
  }

  /// The capacity that the policy's words come to by now, for a pool that is open. Asks filesystems: never on the
  /// loop, and beside all other calls. Errors: `unsupported` where it is that of its devices, `invalid`, `io`.
  virtual Result<ByteCount> capacity_for(const Wanted& /*wanted*/) {
    return failure(ErrorCode::unsupported, "its capacity is that of its devices");
  }

  /// How long a cut waits for pinned pages, from the next one on. Thread-safe; nothing where no page is waited
  /// for.
  virtual void set_cut_deadline(std::chrono::milliseconds /*deadline*/) {}

  /// Somebody is about to be given a descriptor, which not every pool can know the end of. Loop only. True
  /// when that had to be noted: never_granted() takes it back when nobody was given one.
  virtual bool granting(const Extent&) noexcept { return false; }
  virtual void never_granted(const Extent&) noexcept {}

  /// Reserves memory that reads as zeros (promises 4 and 6). Errors: `pool_full`, `io`, `invalid`.
  virtual Result<Extent> carve(const Carving& carving, const Progress& progress) = 0;

  /// True while regions of it can be made of memory that was there before they were asked for: blank() makes that, from
  /// any thread and beside all other calls, and costs neither pages nor anybody's quota.
  [[nodiscard]] virtual bool makes_blanks() const { return false; }
  /// Errors: `io`, `unsupported`.
  virtual Result<Fd> blank() {
    return failure(ErrorCode::unsupported, "pool " + facts().name + " makes nothing ahead");
  }
  /// carve(), of a blank. On the loop. Errors: as carve().
  virtual Result<Extent> carve_blank(Fd /*blank*/, const Carving&) {
    return failure(ErrorCode::unsupported, "pool " + facts().name + " makes nothing ahead");
  }

  /// Finds the memory of a recorded region after a restart. `held`: the descriptor that the keeper or the fd
  /// store kept, for volatile pools. Errors: `lost` when it no longer exists. The Extent comes back kept.
  virtual Result<Extent> reattach(const ledger::RegionRecord& record, Fd held) = 0;

  /// Makes promise 5 true: when it returns, no holder reads or writes the region's contents. Restartable.
  /// Errors: `timed_out` when pins keep it from finishing (the caller quarantines), `io`.
  virtual Result<void> cut(Extent& extent, SealKind seal) = 0;

  /// Ends (SIGKILL) the processes that have the memory, where Facts::end_holders_after is set; returns how
  /// many. Errors: `unsupported` when they cannot be found, `io`.
  virtual Result<std::size_t> end_holders(const Extent&) { return std::size_t{0}; }

  /// False only when no descriptor (but the broker's and the keeper's) and no mapping is left. Cheap: one
  /// probe.
  virtual Result<bool> held(const Extent& extent) = 0;

  /// Promise 15: when it returns, nobody can write the memory any more through what he has: no writable descriptor or
  /// mapping is left, and no page is pinned, which is the one way to store into memory without either. Whoever calls sees
  /// to it that no writable grant is made meanwhile, nor ever again. May take a fifth of a second; restartable. Errors:
  /// `busy` (detail by = "writers" or "pins"): somebody still can; `unsupported` where nobody could tell, with the reason;
  /// `io`.
  virtual Result<void> forbid_writing(const Extent&) {
    return failure(ErrorCode::unsupported,
                   "regions of pool " + facts().name +
                       " cannot be published: nobody could tell whether pages of a file are "
                       "still pinned for writing (io_uring, direct I/O)");
  }
  /// Whether the memory itself says that forbid_writing() succeeded, for an earlier broker too.
  [[nodiscard]] virtual bool unwritable(const Extent&) const { return false; }
  /// Zeroes memory that is unwritable and sealed, through a writable grant that the broker made for that. Errors:
  /// `unsupported` where the kernel does not let a grant write either.
  virtual Result<void> zero_through(const Extent&, BorrowedFd /*grant*/) {
    return failure(ErrorCode::unsupported, "pool " + facts().name + " has no memory that is unwritable");
  }

  /// True for memory that cannot be opened twice: its holders share the broker's and the keeper's one
  /// description, so held() tells the truth only once these two have closed theirs, which they do after cut.
  [[nodiscard]] virtual bool shares_description() const { return false; }

  /// Scrubs and gives the memory back. Only after cut, and after held() was false. Restartable.
  virtual Result<void> free(Extent& extent, const Progress& progress) = 0;

  /// free(), on the loop, where that takes microseconds, since few of its pages are in use and nobody has it. False:
  /// nothing was done.
  virtual bool free_at_once(Extent&) { return false; }

  /// Undoes carve for an Extent that was never granted; on a thread where the pool is not quick(). Pools with
  /// an undo that may fail remember the word and finish in free_discarded().
  virtual void discard(Extent& extent) noexcept = 0;
  /// Finishes what discard remembered; runs on the worker.
  virtual Result<void> free_discarded() { return ok(); }

  /// At start, after every record was reattached: removes what no record names, and gives nobody what one
  /// does. While the records are not complete, what may be somebody's bytes is renamed instead, and stays.
  /// Errors: `exists` names what stays because it is another ledger's or nobody's; else as of freeing.
  virtual Result<void> sweep(const Recorded& /*recorded*/) { return ok(); }

  /// Whether cache modes were read back from the page table: all that the pool gives, and this region's.
  [[nodiscard]] virtual bool cache_verified() const { return facts().cache_verified; }
  [[nodiscard]] virtual bool cache_verified(const Extent&) { return facts().cache_verified; }

  /// Whether memory of it can be damaged: only then bad_blocks() has something to tell.
  [[nodiscard]] virtual bool wears_out() const { return false; }
  /// Damaged sectors of the backing within the region whose Extent has this word; 0 when there is none any
  /// more. Asks filesystems and sysfs: never on the loop, and beside all other calls.
  virtual std::uint32_t bad_blocks(std::uint64_t /*word*/) { return 0; }
};

inline Extent::Extent(Extent&& other) noexcept
    : pool_(std::exchange(other.pool_, nullptr)),
      fd_(std::move(other.fd_)),
      size_(other.size_),
      word_(other.word_),
      kept_(other.kept_) {}
inline Extent& Extent::operator=(Extent&& other) noexcept {
  if (this != &other) {
    if (pool_ != nullptr && !kept_) pool_->discard(*this);
    pool_ = std::exchange(other.pool_, nullptr);
    fd_ = std::move(other.fd_);
    size_ = other.size_;
    word_ = other.word_;
    kept_ = other.kept_;
  }
  return *this;
}
inline Extent::~Extent() {
  if (pool_ != nullptr && !kept_) pool_->discard(*this);
}

}  // namespace mapcap::broker::pool
