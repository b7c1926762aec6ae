// Labels of grants that were made before anybody knew whose they would be: a place in memory that broker and keeper
// share for each. The broker writes one when it gives the grant away, without a system call; the keeper looks when it is
// asked about the grant, or told to look, and has the label itself from then on.
//
// A place passes from one to the other by its state, so neither ever writes what the other reads:
//
//     blank --broker: written--> named --keeper: has it--> taken --broker: another grant's--> blank
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "broker/confine/confiner.h"
#include "broker/keeper/label_blob.h"
#include "mapcap/fd.h"

namespace mapcap::broker::keeper {

/// What becomes known of a grant when it is given away.
struct Naming {
  ByteCount size;
  confine::Holder holder;
  std::string label;  ///< encode_label
};

/// Owns the memfd and its mapping. Movable; one broker, one keeper.
class LabelBoard {
 public:
  static constexpr std::uint32_t kPlaces = 256;

  /// Errors: `io`.
  static Result<LabelBoard> create();
  /// Maps one that a broker made and sealed. Errors: `io`.
  static Result<LabelBoard> map(Fd fd);

  LabelBoard(LabelBoard&& other) noexcept;
  LabelBoard& operator=(LabelBoard&&) = delete;
  LabelBoard(const LabelBoard&) = delete;
  ~LabelBoard();

  [[nodiscard]] BorrowedFd fd() const { return fd_.borrow(); }

  // ---- the broker

  /// A place for a grant that is to be made; nothing while all are in use.
  std::optional<std::uint32_t> reserve(confine::GrantId grant);
  /// From here on that is what the grant says of itself.
  void write(std::uint32_t place, const Naming& naming);
  /// The grant was thrown away before it had a name.
  void give_back(std::uint32_t place);
  /// Whether places wait for the keeper to look.
  [[nodiscard]] bool has_unread() const { return unread_; }
  /// The keeper was told to look.
  void told() { unread_ = false; }

  // ---- the keeper

  /// What is mapped needs no descriptor.
  void let_go_of_fd() { fd_.reset(); }
  /// The label of a grant that was given that place; nothing as long as it has none. The place is free afterwards.
  std::optional<Naming> take(std::uint32_t place, confine::GrantId grant);

 private:
  enum State : std::uint32_t { blank, named, taken };
  static constexpr std::size_t kLabelWords = kMaxLabelBytes / sizeof(std::uint64_t);

  struct Place {
    std::atomic<std::uint32_t> state;
    std::atomic<std::uint32_t> label_bytes;
    std::atomic<std::uint64_t> grant;
    std::atomic<std::uint64_t> size;
    std::atomic<std::uint32_t> holder_uid;
    std::atomic<std::uint32_t> holder_gid;
    std::array<std::atomic<std::uint64_t>, kLabelWords> label;
  };
  static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

  static constexpr std::size_t kBytes = sizeof(std::array<Place, kPlaces>);

  LabelBoard(Fd fd, Place* places) : fd_(std::move(fd)), places_(places) {}

  Fd fd_;
  Place* places_ = nullptr;
  std::vector<bool> used_ = std::vector<bool>(kPlaces);  ///< The broker's.
  std::uint32_t next_ = 0;
  bool unread_ = false;
};

}  // namespace mapcap::broker::keeper
