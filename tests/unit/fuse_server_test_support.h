// The keeper's answers to the kernel, whose part is played through a socket pair.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "broker/keeper/fuse/server.h"
#include "broker/keeper/wire.h"
#include "schema/channel.h"

namespace mapcap::broker::keeper {

inline constexpr confine::GrantId kGrant = 0x7001'0000'0000'0002;

struct Answer {
  bool any = false;
  int error = 0;
  std::vector<std::byte> body;

  template <typename T>
  [[nodiscard]] T as() const {
    T value{};
    EXPECT_EQ(body.size(), sizeof value);
    std::memcpy(&value, body.data(), std::min(sizeof value, body.size()));
    return value;
  }
  [[nodiscard]] std::string text() const {
    std::string copy(body.size(), '\0');
    std::memcpy(copy.data(), body.data(), body.size());
    return copy;
  }
};

class FuseServerTest : public testing::Test {
 protected:
  FuseServerTest()
      : page_(std::move(IssuingPage::create().value())),
        ends_(std::move(schema::socket_pair().value())),
        server_(ends_.second.borrow(), page_) {}

  static Opening opening(confine::GrantId grant = kGrant, Access rights = Access::read_write) {
    confine::Label label{"bob/x", {8192}, rights, "uc", "wb", "page block-device", "clone", 1000};
    return {grant, RegionId{5}, 9, {8192}, rights, {1000, 100}, 0, encode_label(label).value()};
  }

  struct Caller {
    std::uint32_t uid = 0;
    std::uint32_t tid = static_cast<std::uint32_t>(::gettid());
  };
  static Caller stranger() { return {1000, 4242}; }

  /// One request through the server; the answer, if it gave one.
  Answer ask(std::uint32_t opcode, std::uint64_t node, const Caller& caller, const wire::Bytes& body = {}) {
    fuse_in_header header{};
    header.len = static_cast<std::uint32_t>(sizeof header + body.size());
    header.opcode = opcode;
    header.unique = ++unique_;
    header.nodeid = node;
    header.uid = caller.uid;
    header.pid = caller.tid;
    wire::Bytes packet;
    wire::append(packet, header);
    packet.insert(packet.end(), body.begin(), body.end());
    EXPECT_EQ(::send(ends_.first.get(), packet.data(), packet.size(), 0),
              static_cast<ssize_t>(packet.size()));
    EXPECT_EQ(server_.serve(2, now_), FuseServer::Served::drained);
    return answer();
  }

  Answer answer() {
    Answer got;
    std::array<std::byte, 4096> buffer{};
    const ssize_t size = ::recv(ends_.first.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (size < 0) return got;
    fuse_out_header out{};
    EXPECT_GE(static_cast<std::size_t>(size), sizeof out);
    std::memcpy(&out, buffer.data(), sizeof out);
    EXPECT_EQ(out.len, static_cast<std::uint32_t>(size));
    EXPECT_EQ(out.unique, unique_);
    got.any = true;
    got.error = -out.error;
    got.body.assign(buffer.begin() + sizeof out, buffer.begin() + size);
    return got;
  }

  template <typename T>
  static wire::Bytes body_of(const T& value, std::string_view text = {}) {
    wire::Bytes bytes;
    wire::append(bytes, value);
    for (const char c : text) bytes.push_back(static_cast<std::byte>(c));
    return bytes;
  }

  void issue() {
    page_.let_open(opening());
    const Answer opened = ask(FUSE_TMPFILE, FUSE_ROOT_ID, {});
    page_.clear();
    ASSERT_TRUE(opened.any);
    ASSERT_EQ(opened.error, 0);
  }

  IssuingPage page_;
  std::pair<Fd, Fd> ends_;
  FuseServer server_;
  std::uint64_t unique_ = 0;
  const FuseServer::Time now_ = std::chrono::hours(1);
};

}  // namespace mapcap::broker::keeper
