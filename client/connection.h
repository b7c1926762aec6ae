// One connected socket to the broker: the handshake, then packets with a deadline. Knows nothing of retrying.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "schema/codec.h"
#include "schema/request.h"
#include "schema/result.h"
#include "schema/unique_fd.h"

namespace mapcap {

using Deadline = std::chrono::steady_clock::time_point;

/// What one packet brought.
struct Received {
  schema::FromBroker message;
  std::vector<schema::UniqueFd> fds;
  bool dropped_fds = false;  ///< It came with descriptors that were not wanted; they are gone.
};

class Connection {
 public:
  /// Connects and shakes hands. Errors: `unavailable`, `denied`, `version`, `timed_out`, `malformed`, and
  /// whatever the broker answers to the hello (`exhausted` when the user has too many connections).
  static schema::Result<Connection> open(const std::string& path, const schema::Hello& hello,
                                         Deadline deadline);

  [[nodiscard]] const schema::Welcome& welcome() const { return welcome_; }
  [[nodiscard]] schema::BorrowedFd socket() const { return socket_.borrow(); }

  /// Waits while the broker's queue is full. Errors: `unavailable` when the connection is gone, `timed_out`,
  /// `io`.
  schema::Result<void> send(const schema::Request& request, schema::BorrowedFd fd, Deadline deadline);

  /// The next packet; at most one descriptor when `wants_fd`, none otherwise.
  /// Errors: `unavailable` when the connection is gone, `timed_out`, `malformed`, `io`.
  schema::Result<Received> receive(bool wants_fd, Deadline deadline);
  /// The next packet if one is here already. Errors: as receive.
  schema::Result<std::optional<Received>> receive_now(bool wants_fd);

 private:
  explicit Connection(schema::UniqueFd socket) : socket_(std::move(socket)) {}
  schema::Result<void> wait(short events, Deadline deadline);

  schema::UniqueFd socket_;
  schema::Welcome welcome_;
};

/// The error of a connection that ended: callers retry on it.
schema::Error connection_lost();
[[nodiscard]] bool is_connection_lost(const schema::Error& error);

}  // namespace mapcap
