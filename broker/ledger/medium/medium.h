// What a ledger is written to: bytes that are stored to directly, and the calls that make stores durable.
//
// Two families, told apart by granularity():
//   byte, cache_line  flush() starts cache lines on their way and fence() waits for them. Neither can fail.
//   page              flush() notes what the next sync() must cover; sync() is an msync and can fail.
// One thread, the loop's, stores, flushes, fences and takes; sync() and grow() may run on another meanwhile.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "base/result.h"
#include "mapcap/words.h"

namespace mapcap::broker::ledger {

/// Bytes [offset, offset + size) of a medium.
struct Range {
  std::size_t offset = 0;
  std::size_t size = 0;
  bool operator==(const Range&) const = default;
};

/// Why something is made durable. Each place in the ledger that flushes, fences or syncs has a step of its
/// own, so that the crash tests can leave out one at a time and show that it was needed.
enum class Step : std::uint8_t {
  record,     ///< A new version of a record, in a slot of its own.
  promotion,  ///< All that a record's process-strength past left unflushed, before its first power strength.
  tombstone,  ///< The word that turns a record into a tombstone.
  release,    ///< The zero word that frees a slot.
  retry,      ///< What a failed sync had covered, for the next one.
  put,        ///< The fence or sync that the acknowledgement of a new version waits for.
  erase,      ///< The same for an erase.
  closing,    ///< Everything, at an orderly end.
  superblock_first,   ///< The copy that is written first.
  superblock_second,  ///< The other copy, before the first may be written again.
  start_first,        ///< The same two, when a ledger is opened.
  start_second,
  adopt,             ///< What recovery found, before anybody acts on it.
  recovery_release,  ///< What recovery freed.
};
std::string_view to_string(Step step);

class Medium {
 public:
  Medium() = default;
  Medium(const Medium&) = delete;
  Medium& operator=(const Medium&) = delete;
  virtual ~Medium() = default;

  /// For people: the path.
  [[nodiscard]] virtual std::string_view name() const = 0;
  /// All that is mapped. grow() makes it longer and never moves it.
  [[nodiscard]] virtual std::span<const std::byte> bytes() const = 0;
  [[nodiscard]] virtual Granularity granularity() const = 0;

  /// Brings the range in from the device, so that reading it does not fault on an unreadable block. Errors:
  /// `io`.
  virtual Result<void> preload(Range range) = 0;
  /// Makes sure that stores to the range will not fault because of the file system (ENOSPC, EIO, a shutdown),
  /// as far as the kernel can tell beforehand. Errors: `io`.
  virtual Result<void> prepare(Range range) = 0;
  /// Stores bytes in ascending order, 8 at a time; each 8-byte word is atomic, the whole is not. The offset
  /// and the size are multiples of 8.
  virtual void store(std::size_t offset, std::span<const std::byte> data) = 0;
  /// Stores one word, after all stores before it (release).
  virtual void store_word(std::size_t offset, std::uint64_t word) = 0;

  virtual void flush(Range range, Step step) = 0;
  virtual void fence(Step step) = 0;

  /// Page granularity only. What was flushed since the last take, as one range; nothing: nothing was.
  virtual std::optional<Range> take_flushed() = 0;
  /// Page granularity only. Errors: `io`; then any part of the range may be durable, and the kernel may have
  /// forgotten that it is not: call redirty() and cover the range again.
  virtual Result<void> sync(Range range, Step step) = 0;
  /// After a failed sync, on the storing thread: stores every page's first word again, because a failed
  /// write-back leaves pages marked clean that were never written.
  virtual void redirty() = 0;

  /// Makes the medium `size` bytes long (a multiple of 4096), the new part zero, allocated and durable as
  /// such. What is there already stays where it is. adopt_growth() then makes bytes() show it, on the storing
  /// thread. Errors: `io` (ENOSPC among them), after which the medium is what it was.
  virtual Result<void> grow(std::size_t size) = 0;
  virtual void adopt_growth() = 0;
};

/// Flushed stores become durable before this returns. Blocks: for opening, when no loop runs yet.
Result<void> settle(Medium& medium, Step step);

}  // namespace mapcap::broker::ledger
