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
#include <vector>

#include "broker/confine/fuse_abi.h"
#include "broker/confine/issuing_page.h"
#include "broker/confine/throttle.h"
#include "schema/unique_fd.h"

namespace mapcap::broker::confine {

class FuseServer {
 public:
  using Time = Throttle::Time;

  struct Node {
    schema::RegionId region;
    schema::ByteCount size;
    std::shared_ptr<const std::string> label;  ///< Shared by the grants of a region.
    std::uint64_t lookups = 0;                 ///< What the kernel will forget.
    std::int32_t backing_id = 0;
    Holder holder;
    schema::Access rights = schema::Access::read_only;
  };

  enum class Served : std::uint8_t {
    drained,  ///< No request is waiting.
    more,     ///< The limit was reached.
    ended,    ///< The connection is gone.
  };

  /// Both outlive the server. `device` is non-blocking and INIT has been answered on its connection.
  FuseServer(schema::BorrowedFd device, const IssuingPage& page) : device_(device), page_(page) {}

  /// Answers at most `limit` requests, charging them at `now`.
  Served serve(std::size_t limit, Time now);

  /// Sends the answers that were held back until now.
  void answer_held(Time now);
  /// When the next of those is due.
  [[nodiscard]] std::optional<Time> next_due() const;

  [[nodiscard]] const std::unordered_map<GrantId, Node>& nodes() const { return nodes_; }
  /// The highest grant ever opened.
  [[nodiscard]] GrantId last_grant() const { return last_grant_; }
  /// Grants that the kernel forgot since the last call.
  std::vector<GrantId> take_released() { return std::exchange(released_, {}); }

  static Time now();

 private:
  using Payload = std::span<const std::byte>;

  void handle(const fuse_in_header& header, Payload body, Time now);
  void handle_holder(const fuse_in_header& header, Payload body);
  void open_tmpfile(const fuse_in_header& header);
  void open_node(const fuse_in_header& header, Payload body);
  void get_attributes(const fuse_in_header& header);
  void get_xattr(const fuse_in_header& header, Payload body);
  void list_xattr(const fuse_in_header& header, Payload body);
  void stat_filesystem(const fuse_in_header& header);
  void forget(std::uint64_t node, std::uint64_t lookups);
  void forget_batch(Payload body);

  /// False when the kernel no longer wants the answer: the caller was interrupted, or the connection ended.
  bool reply(std::uint64_t unique, int error_number, Payload payload = {});
  [[nodiscard]] fuse_attr attributes_of(std::uint64_t node) const;

  schema::BorrowedFd device_;
  const IssuingPage& page_;
  std::unordered_map<GrantId, Node> nodes_;
  GrantId last_grant_ = 0;
  std::unordered_map<std::uint64_t, std::weak_ptr<const std::string>> labels_;  ///< By region.
  std::vector<GrantId> released_;

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

}  // namespace mapcap::broker::confine
