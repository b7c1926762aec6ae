// Answers FUSE for the clones: opens for the issuing thread, attributes for holders, a refusal for everything
// else.
//
// Single-threaded, never blocks, opens nothing. One node is one grant; it lives until the kernel forgets it,
// which is when its last descriptor and its last mapping are gone.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "broker/keeper/fuse/abi.h"
#include "broker/keeper/fuse/throttle.h"
#include "broker/keeper/issuing_page.h"
#include "broker/keeper/label_board.h"
#include "mapcap/fd.h"
#include "policy/subordinates.h"

namespace mapcap::broker::keeper {

class FuseServer {
 public:
  using Time = Throttle::Time;

  struct Node {
    RegionId region;
    ByteCount size;
    std::shared_ptr<const std::string> label;  ///< Shared by the grants of a region.
    std::uint64_t lookups = 0;                 ///< What the kernel will forget.
    std::int32_t backing_id = 0;
    confine::Holder holder;
    Access rights = Access::read_only;
    bool named = false;                  ///< It was opened by name.
    std::optional<std::uint32_t> place;  ///< Where it will be told whose it is, as long as it is nobody's.
  };

  enum class Served : std::uint8_t {
    drained,  ///< Probably no request is waiting.
    more,     ///< The limit was reached.
    ended,    ///< The connection is gone.
  };

  /// Both outlive the server. `device` is non-blocking and INIT has been answered on its connection.
  /// `accounts` tells who stands behind a uid: requests are counted for him.
  FuseServer(BorrowedFd device, const IssuingPage& page, policy::Subordinates accounts = {})
      : device_(device), page_(page), accounts_(std::move(accounts)) {}

  /// Answers at most `limit` requests, charging them at `now`.
  Served serve(std::size_t limit, Time now);

  /// Sends the answers that were held back until now.
  void answer_held(Time now);
  /// When the next of those is due.
  [[nodiscard]] std::optional<Time> next_due() const;

  [[nodiscard]] const std::unordered_map<confine::GrantId, Node>& nodes() const { return nodes_; }
  /// The highest grant ever opened.
  [[nodiscard]] confine::GrantId last_grant() const { return last_grant_; }
  /// Nobody can write that region since then: what its grants say of themselves from now on.
  void published(RegionId region, std::int64_t unix_ns);

  // Grants that were opened before it was known whose they would be: blanks, of memory that is no region yet, and ready
  // opens of regions.

  /// From now on such may be opened, and get their labels from there. Those of before stay without.
  void use_labels(LabelBoard board);
  /// The broker is gone: what is nobody's now stays so, and will be forgotten.
  void end_labels();
  /// Takes over the labels that were written.
  void take_labels();
  /// Blanks opened since the last call: the region that each is to be, and its backing.
  std::vector<std::pair<RegionId, std::int32_t>> take_opened() { return std::exchange(opened_, {}); }
  /// Calls `visit` for the region of each blank that has no label.
  template <typename Visit>
  void visit_blanks(Visit visit) const {
    for (const auto& [region, grant] : blanks_) visit(RegionId{region});
  }
  /// Nobody will give that region a label any more.
  void no_blank(RegionId region) { blanks_.erase(region.value); }

  /// Grants that the kernel forgot since the last call.
  std::vector<confine::GrantId> take_released() { return std::exchange(released_, {}); }

  /// Names that nodes may still have, since their broker may have died before it took them away: the kernel would never
  /// forget such a node.
  [[nodiscard]] std::vector<std::string> names_left() const;

  static Time now();

 private:
  using Payload = std::span<const std::byte>;

  /// True when it was the issuing thread's.
  bool handle(const fuse_in_header& header, Payload body, Time now);
  /// False: that thread may do no more than a holder.
  bool handle_issuer(const fuse_in_header& header, Payload body);
  void handle_holder(const fuse_in_header& header, Payload body);
  void look_up(const fuse_in_header& header, Payload body);
  void open_tmpfile(const fuse_in_header& header);
  void open_node(const fuse_in_header& header, Payload body);
  void get_attributes(const fuse_in_header& header);
  void get_xattr(const fuse_in_header& header, Payload body);
  void list_xattr(const fuse_in_header& header, Payload body);
  void stat_filesystem(const fuse_in_header& header);
  void forget(std::uint64_t node, std::uint64_t lookups);
  void forget_batch(Payload body);
  /// The node of a grant that is being opened; null where it may not be.
  Node* make_node(std::optional<Opening> opening);
  /// Gives the node its label if it had none and has one by now.
  void settle(confine::GrantId grant, Node& node);
  void set_label(Node& node, std::string label);
  /// Null when the kernel asks about what is not there.
  Node* find(confine::GrantId grant);

  /// False when the kernel no longer wants the answer: the caller was interrupted, or the connection ended.
  bool reply(std::uint64_t unique, int error_number, Payload payload = {});
  [[nodiscard]] fuse_attr attributes_of(std::uint64_t node) const;
  /// How long the kernel may believe them: a blank's size is not its last, a region's is.
  [[nodiscard]] static std::uint64_t valid_for(const Node& node);

  BorrowedFd device_;
  const IssuingPage& page_;
  std::unordered_map<confine::GrantId, Node> nodes_;
  confine::GrantId last_grant_ = 0;
  confine::GrantId last_asked_for_ =
      0;  ///< The latest that was opened by name for somebody who waited for it.
  /// What the grants of one region have in common; as long as there is one.
  struct Shared {
    std::weak_ptr<const std::string> label;  ///< The latest.
    std::size_t nodes = 0;
    std::int64_t published_unix_ns = 0;  ///< 0: it is not published.
  };
  std::unordered_map<std::uint64_t, Shared> shared_;  ///< By region.
  std::vector<confine::GrantId> released_;
  std::optional<LabelBoard> board_;
  /// Regions that were blanks when they were opened and have no label yet, and their grants: also of those that the
  /// kernel has forgotten.
  std::unordered_map<std::uint64_t, confine::GrantId> blanks_;
  std::vector<std::pair<RegionId, std::int32_t>> opened_;
  std::unordered_set<confine::GrantId> nobodys_;  ///< Grants without a label that may get one.

  const policy::Subordinates accounts_;
  Throttle throttle_;
  /// A request whose answer is held back, as it was read.
  struct Held {
    fuse_in_header header{};
    std::vector<std::byte> body;
  };
  std::multimap<Time, Held> held_;
  alignas(8) std::array<std::byte, fuse::kReadBuffer> buffer_{};
  bool ended_ = false;
};

}  // namespace mapcap::broker::keeper
