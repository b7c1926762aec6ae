#include "client/connection.h"

#include <poll.h>

#include <algorithm>
#include <cerrno>

#include "schema/channel.h"

namespace mapcap {
namespace {

constexpr std::string_view kLost = "connection_lost";

Result<Received> unpack(schema::Incoming&& incoming) {
  MAPCAP_TRY(auto message, schema::decode_from_broker(incoming.bytes));
  return Received{std::move(message), std::move(incoming.fds), incoming.dropped_fds};
}

}  // namespace

Failure connection_lost() {
  return failure(ErrorCode::unavailable,
                 "the broker closed the connection; see its log, and whether mapcapd is still running",
                 {{std::string(kLost), "true"}});
}

bool is_connection_lost(const Failure& error) {
  return std::any_of(error.details.begin(), error.details.end(),
                     [](const Detail& detail) { return detail.key == kLost; });
}

Result<Connection> Connection::open(const std::string& path, const schema::Hello& hello, Deadline deadline) {
  MAPCAP_TRY(auto socket, schema::connect_to(path));
  Connection connection(std::move(socket));
  // A broker that refuses the connection says why and closes it, maybe before the hello is sent.
  if (auto sent = connection.send({0, hello}, deadline); !sent && !is_connection_lost(sent.error()))
    return sent.error();
  MAPCAP_TRY(auto received, connection.receive(false, deadline));
  auto* reply = std::get_if<schema::Reply>(&received.message);
  if (reply == nullptr)
    return failure(ErrorCode::malformed, "the broker at " + path + " did not answer the hello first");
  if (auto* error = std::get_if<Failure>(&reply->body)) return std::move(*error);
  auto* welcome = std::get_if<schema::Welcome>(&reply->body);
  if (welcome == nullptr)
    return failure(ErrorCode::malformed, "the broker at " + path + " answered the hello with something else");
  if (welcome->version != schema::kProtocolVersion) {
    return failure(ErrorCode::version, "the broker at " + path + " speaks protocol version " +
                                           std::to_string(welcome->version) + " and this client " +
                                           std::to_string(schema::kProtocolVersion) +
                                           "; install the same release of both");
  }
  connection.welcome_ = std::move(*welcome);
  return connection;
}

Result<void> Connection::wait(short events, Deadline deadline) {
  for (;;) {
    int timeout = -1;
    if (deadline != Deadline::max()) {
      auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
      if (left.count() <= 0)
        return failure(ErrorCode::timed_out, "the broker did not answer in time; it may be busy or stopped");
      timeout = static_cast<int>(std::min<std::int64_t>(left.count(), 1000 * 1000));
    }
    pollfd watched{socket_.get(), events, 0};
    int ready = ::poll(&watched, 1, timeout);
    if (ready > 0) return ok();
    if (ready < 0 && errno != EINTR) return io_error("poll on the broker's socket", errno);
  }
}

Result<void> Connection::send(const schema::Request& request, Deadline deadline) {
  const schema::Packet packet = schema::encode(request);
  for (;;) {
    auto sent = schema::send(socket_.borrow(), packet);
    if (sent.has_error()) {
      for (const Detail& detail : sent.error().details) {
        if (detail.key != "errno") continue;
        if (detail.value == std::to_string(EPIPE) || detail.value == std::to_string(ECONNRESET) ||
            detail.value == std::to_string(ENOTCONN))
          return connection_lost();
      }
      return std::move(sent).assume_error();
    }
    if (sent.assume_value()) return ok();
    MAPCAP_TRY_VOID(wait(POLLOUT, deadline));
  }
}

Result<std::optional<Received>> Connection::receive_now(bool wants_fd) {
  MAPCAP_TRY(auto found, schema::receive(socket_.borrow(), schema::kMaxPacket, wants_fd ? 1 : 0));
  if (auto* state = std::get_if<schema::Wait>(&found)) {
    if (*state == schema::Wait::closed) return connection_lost();
    return std::optional<Received>();
  }
  MAPCAP_TRY(auto received, unpack(std::move(std::get<schema::Incoming>(found))));
  return std::optional<Received>(std::move(received));
}

Result<Received> Connection::receive(bool wants_fd, Deadline deadline) {
  for (;;) {
    MAPCAP_TRY(auto received, receive_now(wants_fd));
    if (received) return std::move(*received);
    MAPCAP_TRY_VOID(wait(POLLIN, deadline));
  }
}

}  // namespace mapcap
