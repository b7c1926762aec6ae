// What Client hides: one request at a time over a connection that is made again when the broker restarts.
//
// Whether a request that was under way when the connection broke has been carried out cannot be known. Every
// verb but create may be repeated without harm; Answer::repeated tells the caller that it was.
#pragma once

#include <deque>
#include <mutex>
#include <optional>
#include <string>

#include "base/result.h"
#include "client/connection.h"
#include "mapcap/client.h"
#include "mapcap/fd.h"
#include "schema/reply.h"
#include "schema/request.h"

namespace mapcap {

/// A reply that is no error, its descriptor if it has one, and whether the request was sent more than once.
struct Answer {
  schema::ReplyBody body;
  Fd fd;
  bool repeated = false;
};

/// A failed call, and whether the request was sent more than once.
struct Call {
  schema::RequestBody body;
  bool wants_fd = false;                   ///< The reply may bring one.
  const Progress* progress = nullptr;      ///< May be null.
  std::chrono::nanoseconds extra_time{0};  ///< On top of the deadline; max(): no deadline.
  std::uint64_t needs = 0;                 ///< Feature bits without which the broker is not asked.
};

class Session {
 public:
  explicit Session(ConnectOptions options);
  /// Says goodbye, where that ends something: waits for the broker to have ended it, at most a second.
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  /// The first connection. Errors: `unavailable`, `denied`, `version`, ...
  Result<void> connect();

  /// Sends, waits, repeats after a lost connection. `repeated` is set also when the result is an error.
  Result<Answer> call(const Call& call, bool& repeated);

  std::size_t poll();

  /// An epoll instance over the socket, the queue of notices and the timer of the next attempt to reconnect:
  /// its number stays, whatever becomes of the socket.
  [[nodiscard]] int event_fd() const { return events_.get(); }
  [[nodiscard]] const std::string& path() const { return options_.socket; }
  [[nodiscard]] std::string broker();

 private:
  Result<void> set_up();
  Result<void> try_connect(Deadline deadline);
  Result<void> reconnect(Deadline lost_until, Deadline deadline);
  void drop_connection();
  void keep(const schema::Notice& notice);
  void keep(Notice notice);
  void signal_notices();
  void retry_at(std::chrono::milliseconds delay);
  Result<Answer> await_reply(const Call& call, std::uint64_t id, Deadline& deadline);
  bool drain_socket();
  void say_goodbye();

  std::mutex mutex_;  ///< Guards everything below but events_, which is set once.
  ConnectOptions options_;
  Fd events_;
  Fd notices_ready_;  ///< eventfd: readable while notices_ is not empty.
  Fd retry_timer_;    ///< timerfd: readable when poll() should try to reconnect.
  std::optional<Connection> connection_;
  std::string resume_;
  std::string broker_;
  std::uint64_t last_id_ = 0;
  std::deque<Notice> notices_;
  std::chrono::milliseconds retry_delay_{0};
  int owner_pid_;
  bool made_for_connection_ = false;  ///< Something that ends with the connection.
};

}  // namespace mapcap
