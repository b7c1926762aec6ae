// One connected socket to the broker: the handshake, then packets with a deadline. Knows nothing of retrying.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "mapcap/fd.h"
#include "schema/codec.h"
#include "schema/reply.h"
#include "schema/request.h"

namespace mapcap {

using Deadline = std::chrono::steady_clock::time_point;

/// What one packet brought.
struct Received {
  schema::FromBroker message;
  std::vector<Fd> fds;
  bool dropped_fds = false;  ///< It came with descriptors that were not wanted; they are gone.
};

class Connection {
 public:
  /// Connects and shakes hands. Errors: `unavailable`, `denied`, `version`, `timed_out`, `malformed`, and
  /// whatever the broker answers to the hello (`exhausted` when the user has too many connections).
  static Result<Connection> open(const std::string& path, const schema::Hello& hello, Deadline deadline);

  [[nodiscard]] const schema::Welcome& welcome() const { return welcome_; }
  [[nodiscard]] BorrowedFd socket() const { return socket_.borrow(); }

  /// Waits while the broker's queue is full. Errors: `unavailable` when the connection is gone, `timed_out`,
  /// `io`.
  Result<void> send(const schema::Request& request, Deadline deadline);

  /// The next packet; at most one descriptor when `wants_fd`, none otherwise.
  /// Errors: `unavailable` when the connection is gone, `timed_out`, `malformed`, `io`.
  Result<Received> receive(bool wants_fd, Deadline deadline);
  /// The next packet if one is here already. Errors: as receive.
  Result<std::optional<Received>> receive_now(bool wants_fd);

 private:
  explicit Connection(Fd socket) : socket_(std::move(socket)) {}
  Result<void> wait(short events, Deadline deadline);

  Fd socket_;
  schema::Welcome welcome_;
};

/// The error of a connection that ended: callers retry on it.
Failure connection_lost();
[[nodiscard]] bool is_connection_lost(const Failure& error);

}  // namespace mapcap
