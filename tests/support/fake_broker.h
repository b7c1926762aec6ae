// A broker that does exactly what a test says, one script a connection. Speaks the real protocol over a real
// listening socket, through the project's own codec and channel.
#pragma once

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "mapcap/fd.h"
#include "schema/channel.h"
#include "schema/codec.h"
#include "schema/protocol.h"
#include "schema/reply.h"
#include "schema/request.h"
#include "tests/support/patience.h"

namespace mapcap::testing {

/// The broker's end of one connection.
class Peer {
 public:
  explicit Peer(Fd socket) : socket_(std::move(socket)) {}

  /// The client's next request; id 0 and a Pools body when the client closed.
  schema::Request read() {
    for (;;) {
      auto received = schema::receive(socket_.borrow(), schema::kMaxRequest, 1);
      if (!received) return {0, schema::Pools{}};
      if (auto* incoming = std::get_if<schema::Incoming>(&received.value())) {
        fds = std::move(incoming->fds);
        auto request = schema::decode_request(incoming->bytes);
        EXPECT_TRUE(request.has_value()) << "the client sent what the codec refuses";
        return request ? std::move(request).value() : schema::Request{};
      }
      if (std::get<schema::Wait>(received.value()) == schema::Wait::closed) return {0, schema::Pools{}};
      pollfd watched{socket_.get(), POLLIN, 0};
      ::poll(&watched, 1, -1);
    }
  }

  /// Reads the hello and answers it. Returns what it was.
  schema::Hello welcome(const std::string& resume = std::string(schema::kResumeBytes, 'r'),
                        bool resumed = false,
                        std::uint64_t features = schema::kFeatureNotices | schema::kFeatureClonePorts) {
    const schema::Request request = read();
    const auto* hello = std::get_if<schema::Hello>(&request.body);
    EXPECT_NE(hello, nullptr) << "a client says hello first";
    schema::Welcome answer;
    answer.broker = "fake 1";
    answer.resume = resume;
    answer.grace = std::chrono::seconds(5);
    answer.resumed = resumed;
    answer.features = features;
    reply(request.id, answer);
    return hello != nullptr ? *hello : schema::Hello{};
  }

  void reply(std::uint64_t id, schema::ReplyBody body, const std::vector<BorrowedFd>& with = {}) {
    raw(schema::encode(schema::FromBroker(schema::Reply{id, std::move(body)})), with);
  }
  void notice(const schema::Notice& notice) { raw(schema::encode(schema::FromBroker(notice))); }
  void raw(const std::vector<std::byte>& bytes, const std::vector<BorrowedFd>& with = {}) {
    auto sent = schema::send(socket_.borrow(), bytes, with);
    EXPECT_TRUE(sent.has_value() && sent.value());
  }
  /// Waits until the client has gone.
  void until_closed() {
    while (read().id != 0) {
    }
  }

  std::vector<Fd> fds;  ///< What came with the request read last.

 private:
  Fd socket_;
};

class FakeBroker {
 public:
  using Script = std::function<void(Peer&)>;

  /// Serves one connection after the other, each by its script, then stops listening.
  explicit FakeBroker(std::vector<Script> scripts) {
    char pattern[] = "/tmp/mapcap-fake-XXXXXX";
    directory_ = ::mkdtemp(pattern);
    path_ = directory_ + "/socket";
    listener_ = Fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::snprintf(address.sun_path, sizeof address.sun_path, "%s", path_.c_str());
    EXPECT_EQ(::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(::listen(listener_.get(), 8), 0);
    thread_ = std::thread([this, scripts = std::move(scripts)] {
      for (const Script& script : scripts) {
        pollfd watched{listener_.get(), POLLIN, 0};
        // A test that never connects must end, not hang.
        if (::poll(&watched, 1, test::kPatienceMs) != 1) break;
        Peer peer(Fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)));
        script(peer);
      }
      ::unlink(path_.c_str());
      listener_.reset();
    });
  }
  ~FakeBroker() {
    thread_.join();
    ::rmdir(directory_.c_str());
  }
  FakeBroker(const FakeBroker&) = delete;
  FakeBroker& operator=(const FakeBroker&) = delete;

  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string directory_;
  std::string path_;
  Fd listener_;
  std::thread thread_;
};

}  // namespace mapcap::testing
