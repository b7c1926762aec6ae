// One page shared by broker and keeper that says who may open right now.
//
// The keeper refuses every open but the one that the issuing thread is in. The broker writes the slot, then
// opens; the system call itself orders the two, since the thread that wrote the slot is inside the open while
// the keeper reads it. Everybody else's requests only ever look at `tid`. The keeper clears the slot when its
// broker is gone, so that a recycled thread id opens nothing.
#pragma once

#include <sys/types.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>
#include <string>

#include "base/result.h"
#include "broker/confine/confiner.h"
#include "broker/keeper/label_blob.h"
#include "mapcap/fd.h"

namespace mapcap::broker::keeper {

/// One open that is being issued.
struct Opening {
  confine::GrantId grant = 0;
  RegionId region;
  std::int32_t backing_id = 0;
  ByteCount size;
  Access rights = Access::read_only;
  confine::Holder holder;
  std::int64_t published_unix_ns = 0;  ///< 0: the region is not published.
  std::string label;                   ///< encode_label; of a blank, nothing that counts.
  /// The grant's place on the LabelBoard, for one that is made before it is known whose it will be.
  std::optional<std::uint32_t> place{};
  bool of_region = false;  ///< Such a one of a region that is there: no blank.
};

/// Owns the page's memfd and its mapping. Movable; one writer, one reader.
class IssuingPage {
 public:
  /// Errors: `io`.
  static Result<IssuingPage> create();
  /// Maps the page of an earlier broker. Errors: `malformed` when it is not such a page, `io`.
  static Result<IssuingPage> map(Fd fd);

  IssuingPage(IssuingPage&& other) noexcept;
  IssuingPage& operator=(IssuingPage&&) = delete;
  IssuingPage(const IssuingPage&) = delete;
  ~IssuingPage();

  [[nodiscard]] BorrowedFd fd() const { return fd_.borrow(); }

  /// Lets the calling thread open, which has that id; until clear().
  void let_open(const Opening& opening, pid_t tid = ::gettid());
  /// Nobody may open.
  void clear();

  /// Whether thread `tid` is the one that may open; cheap.
  [[nodiscard]] bool is_issuer(pid_t tid) const;
  /// What that thread may open; nothing when the slot makes no sense.
  [[nodiscard]] std::optional<Opening> opening() const;

 private:
  static constexpr std::size_t kLabelWords = kMaxLabelBytes / sizeof(std::uint64_t);

  /// The layout is shared by different builds of the broker: change kMagic with it.
  struct Slot {
    static constexpr std::uint32_t kMagic = 0x6d617002;
    std::atomic<std::uint32_t> magic;
    std::atomic<std::int32_t> tid;  ///< 0: nobody may open.
    std::atomic<std::uint64_t> grant;
    std::atomic<std::uint64_t> region;
    std::atomic<std::uint64_t> size;
    std::atomic<std::int32_t> backing_id;
    std::atomic<std::uint32_t> rights;
    std::atomic<std::uint32_t> holder_uid;
    std::atomic<std::uint32_t> holder_gid;
    std::atomic<std::uint32_t> label_bytes;
    std::array<std::atomic<std::uint64_t>, kLabelWords> label;
    // Behind what older builds know: theirs leave it zero, and do not look at it.
    std::atomic<std::int64_t> published_unix_ns;
    /// One more, and kOfRegion with it; 0: it is not made ahead. Means nothing without a board.
    std::atomic<std::uint32_t> place;
    static constexpr std::uint32_t kOfRegion = 1U << 31U;  ///< Where wire::kKnowsReadyOpens was told.
  };
  static_assert(sizeof(Slot) <= kPageSize);
  static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

  IssuingPage(Fd fd, Slot* slot) : fd_(std::move(fd)), slot_(slot) {}

  Fd fd_;
  Slot* slot_ = nullptr;
};

}  // namespace mapcap::broker::keeper
