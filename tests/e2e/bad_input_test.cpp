// Promise 12: malformed input gets one clear error or a closed connection, and a client working beside it
// notices nothing. Raw packets, as a peer that hates us would send them.
#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

#include "schema/channel.h"
#include "schema/codec.h"
#include "tests/support/attackers.h"
#include "tests/support/broker_process.h"
#include "tests/support/patience.h"

namespace mapcap::test {
namespace {

using namespace std::chrono_literals;
using schema::Packet;
using schema::Reply;
using schema::Request;

/// One raw connection.
class Peer {
 public:
  explicit Peer(const BrokerProcess& broker)
      : socket_(std::move(schema::connect_to(broker.socket()).value())) {}

  /// False when the kernel or the peer refuses.
  bool send(const Packet& packet, int fd = -1) {
    const BorrowedFd rider(fd);
    const auto sent = schema::send(socket_.borrow(), packet, std::span(&rider, fd >= 0 ? 1U : 0U));
    return sent.has_value() && sent.value();
  }
  bool send(const schema::RequestBody& body) { return send(schema::encode(Request{++next_, body})); }

  /// The next packet; nothing when the broker closed the connection.
  std::optional<schema::FromBroker> receive() {
    pollfd waiting{socket_.get(), POLLIN, 0};
    if (::poll(&waiting, 1, kPatienceMs) != 1) {
      ADD_FAILURE() << "the broker neither answered nor closed";
      return std::nullopt;
    }
    auto received = schema::receive(socket_.borrow(), schema::kMaxPacket, 1);
    if (!received || !std::holds_alternative<schema::Incoming>(received.value())) return std::nullopt;
    auto decoded = schema::decode_from_broker(std::get<schema::Incoming>(received.value()).bytes);
    if (!decoded) {
      ADD_FAILURE() << "the broker sent what does not decode: " << decoded.error().sentence;
      return std::nullopt;
    }
    return std::move(decoded.value());
  }

  void greet() {
    ASSERT_TRUE(send(schema::RequestBody(schema::Hello{})));
    const auto answer = receive();
    ASSERT_TRUE(answer && std::holds_alternative<schema::Welcome>(std::get<Reply>(*answer).body));
  }

  /// One clear error, then the end; or just the end.
  void expect_error_or_end() {
    const auto answer = receive();
    if (!answer) return;
    const auto& reply = std::get<Reply>(*answer);
    ASSERT_TRUE(std::holds_alternative<Failure>(reply.body)) << "it was accepted";
    EXPECT_FALSE(std::get<Failure>(reply.body).sentence.empty());
    EXPECT_FALSE(receive()) << "the connection goes on after a malformed message";
  }

  /// An error reply on a connection that goes on.
  ErrorCode refused(const schema::RequestBody& body) {
    EXPECT_TRUE(send(body));
    const auto answer = receive();
    if (!answer || !std::holds_alternative<Failure>(std::get<Reply>(*answer).body)) {
      ADD_FAILURE() << "no error came back";
      return ErrorCode::unavailable;
    }
    const auto& error = std::get<Failure>(std::get<Reply>(*answer).body);
    EXPECT_FALSE(error.sentence.empty());
    return error.code;
  }

  [[nodiscard]] int fd() const { return socket_.get(); }

 private:
  Fd socket_;
  std::uint64_t next_ = 0;
};

schema::Create create_of(std::string name, std::uint64_t size = 4096) {
  schema::Create ask;
  ask.name = std::move(name);
  ask.size = size;
  ask.lifetime = {LifetimeKind::persistent, {}};
  return ask;
}

class BadInputTest : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root: it starts mapcapd";
    broker_.start();
    descriptors_ = descriptors_of(broker_.pid());
    bystander_ = std::thread([this] { work_beside(); });
  }
  void TearDown() override {
    stop_ = true;
    if (!bystander_.joinable()) return;
    bystander_.join();
    EXPECT_EQ(bystander_failures_, 0) << "a client working beside was disturbed";
    EXPECT_GT(bystander_rounds_, 0);
    // Closed connections are reaped in the background.
    EXPECT_TRUE(comes_true([this] {
      return descriptors_of(broker_.pid()) <= descriptors_ + kConnectionsToTheMint;
    })) << "the broker kept descriptors";
  }

  void work_beside() {
    try {
      Client client = broker_.connect();
      while (!stop_ || bystander_rounds_ == 0) {
        RegionSpec wanted;
        wanted.name = "beside/region";
        wanted.size = 8192;
        Mapping mapping(client.create(wanted, Access::read_write));
        mapping.writable()[0] = std::byte{1};
        client.revoke("beside/region");
        ++bystander_rounds_;
      }
    } catch (const std::exception& error) {
      std::fprintf(stderr, "beside: %s\n", error.what());
      ++bystander_failures_;
    }
  }

  BrokerProcess broker_;

 private:
  std::size_t descriptors_ = 0;
  std::thread bystander_;
  std::atomic<bool> stop_{false};
  std::atomic<int> bystander_rounds_{0};
  std::atomic<int> bystander_failures_{0};
};

TEST_F(BadInputTest, ATruncatedMessageOfAnyLengthIsRefused) {
  const Packet whole = schema::encode(Request{1, create_of("root/x")});
  for (std::size_t length = 1; length < whole.size(); length += 7) {
    Peer peer(broker_);
    peer.greet();
    ASSERT_TRUE(peer.send(Packet(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length))));
    peer.expect_error_or_end();
  }
}

TEST_F(BadInputTest, AnOversizedOrMisalignedOrPaddedMessageIsRefused) {
  for (const std::size_t size :
       {schema::kMaxRequest + 8, schema::kMaxPacket * 2, std::size_t{13}, std::size_t{4095}}) {
    Peer peer(broker_);
    peer.greet();
    ASSERT_TRUE(peer.send(Packet(size, std::byte{0})));
    peer.expect_error_or_end();
  }
  Packet padded = schema::encode(Request{1, create_of("root/x")});
  padded.resize(padded.size() + 8);
  Peer peer(broker_);
  peer.greet();
  ASSERT_TRUE(peer.send(padded));
  peer.expect_error_or_end();
}

TEST_F(BadInputTest, AMessageOfTwoSegmentsIsRefused) {
  // Cap'n Proto framing: number of segments minus one, sizes, padding; then the segments themselves.
  Packet packet(16 + 16, std::byte{0});
  packet[0] = std::byte{1};
  packet[4] = std::byte{1};
  packet[8] = std::byte{1};
  Peer peer(broker_);
  peer.greet();
  ASSERT_TRUE(peer.send(packet));
  peer.expect_error_or_end();
}

TEST_F(BadInputTest, RandomBytesAreRefused) {
  std::mt19937 random(20);  // Any seed.
  for (int round = 0; round < 200; ++round) {
    Packet packet(8 * (1 + random() % 64));
    for (std::byte& byte : packet) byte = static_cast<std::byte>(random());
    Peer peer(broker_);
    if (round % 2 == 0) peer.greet();
    ASSERT_TRUE(peer.send(packet));
    peer.expect_error_or_end();
  }
}

TEST_F(BadInputTest, ARequestBeforeHelloAndASecondHelloAreRefused) {
  Peer early(broker_);
  EXPECT_EQ(early.refused(schema::RequestBody(schema::List{})), ErrorCode::malformed);
  Peer twice(broker_);
  twice.greet();
  EXPECT_EQ(twice.refused(schema::RequestBody(schema::Hello{})), ErrorCode::malformed);
  Peer other_version(broker_);
  schema::Hello hello;
  hello.version = 99;
  EXPECT_EQ(other_version.refused(schema::RequestBody(hello)), ErrorCode::version);
}

TEST_F(BadInputTest, ABadNameGetsOneSentenceThatSaysWhere) {
  const std::string with_nul("root/a\0b", 8);
  for (const std::string& name :
       {std::string(), with_nul, std::string("root/../etc"), std::string("root/a/"), std::string("/a"),
        std::string("root//a"), std::string("-x"), std::string(200, 'a'), std::string("root/\xff\xfe")}) {
    Peer peer(broker_);
    peer.greet();
    ASSERT_TRUE(peer.send(schema::RequestBody(create_of(name))));
    const auto answer = peer.receive();
    ASSERT_TRUE(answer) << "closed without a word for name " << testing::PrintToString(name);
    const auto* error = std::get_if<Failure>(&std::get<Reply>(*answer).body);
    ASSERT_NE(error, nullptr) << testing::PrintToString(name) << " was accepted";
    EXPECT_FALSE(error->sentence.empty());
  }
}

TEST_F(BadInputTest, ANameOf10000BytesIsRefused) {
  Peer peer(broker_);
  peer.greet();
  ASSERT_TRUE(peer.send(schema::RequestBody(create_of(std::string(10000, 'a')))));
  peer.expect_error_or_end();
}

TEST_F(BadInputTest, ImpossibleSizesAreRefusedAndTheConnectionGoesOn) {
  Peer peer(broker_);
  peer.greet();
  EXPECT_EQ(peer.refused(create_of("root/x", 0)), ErrorCode::invalid);
  EXPECT_EQ(peer.refused(create_of("root/x", 1ULL << 63U)), ErrorCode::invalid);
  EXPECT_EQ(peer.refused(create_of("root/x", ~0ULL)), ErrorCode::invalid);
  EXPECT_EQ(peer.refused(create_of("root/x", (1ULL << 63U) - 1)), ErrorCode::pool_full);
  EXPECT_EQ(peer.refused(create_of("root/x", (2ULL << 30U) + 1)), ErrorCode::pool_full);
  schema::Create brief = create_of("root/x");
  brief.lifetime = {LifetimeKind::ttl, std::chrono::nanoseconds(1)};
  EXPECT_EQ(peer.refused(brief), ErrorCode::invalid);
  EXPECT_EQ(peer.refused(schema::List{"", "nonsense", 0}), ErrorCode::invalid);
}

TEST_F(BadInputTest, AnUnwantedDescriptorIsNeverInstalled) {
  const std::size_t before = descriptors_of(broker_.pid());
  for (int round = 0; round < 20; ++round) {
    Peer peer(broker_);
    peer.greet();
    const Fd rider(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    // Kernels with SO_PASSRIGHTS refuse at the sender; elsewhere the broker drops it and ends the connection.
    if (!peer.send(schema::encode(Request{7, schema::List{}}), rider.get())) continue;
    peer.expect_error_or_end();
  }
  EXPECT_LE(descriptors_of(broker_.pid()), before + 10);  // The client beside opens some, too.
}

/// Sends a descriptor on the connection: the kernel refuses it (Linux 6.16), or it costs the connection.
void expect_no_passage(Peer& peer, const Packet& packet, int rider) {
  if (peer.send(packet, rider)) peer.expect_error_or_end();
}

TEST_F(BadInputTest, NoDescriptorRidesOnAConnectionWhateverWasAnnounced) {
  schema::Hello hello;
  hello.features = schema::kFeatureSendsFds;
  const Fd rider(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  for (const schema::RequestBody& body :
       {schema::RequestBody(schema::List{}), schema::RequestBody(schema::CloneFd{}),
        schema::RequestBody(schema::AskClonePort{})}) {
    Peer peer(broker_);
    ASSERT_TRUE(peer.send(schema::RequestBody(hello)));
    ASSERT_TRUE(peer.receive());
    expect_no_passage(peer, schema::encode(Request{7, body}), rider.get());
  }
}

TEST_F(BadInputTest, AClonesTicketIsThatOfTheConnectionsOwnPort) {
  Peer peer(broker_);
  Peer other(broker_);
  peer.greet();
  other.greet();
  EXPECT_EQ(peer.refused(schema::CloneFd{}), ErrorCode::unsupported) << "as libmapcap 0.1.0 asks";
  EXPECT_EQ(peer.refused(schema::CloneFd{Access::read_only, 1}), ErrorCode::unavailable);
  ASSERT_TRUE(other.send(schema::RequestBody(schema::AskClonePort{})));
  const auto answer = other.receive();
  ASSERT_TRUE(answer);
  const auto* port = std::get_if<schema::ClonePort>(&std::get<Reply>(*answer).body);
  ASSERT_NE(port, nullptr);
  EXPECT_EQ(peer.refused(schema::CloneFd{Access::read_only, port->ticket}), ErrorCode::unavailable);
  EXPECT_EQ(other.refused(schema::CloneFd{Access::read_only, port->ticket}), ErrorCode::invalid)
      << "nothing was sent to it";
  EXPECT_EQ(other.refused(schema::CloneFd{Access::read_only, port->ticket}), ErrorCode::unavailable)
      << "a port is good for one clone";
}

// Each of its own requests, which wait in a queue, would keep the connection open.
TEST_F(BadInputTest, AConnectionThatIsSentInItselfEnds) {
  for (int round = 0; round < 10; ++round) {
    Peer peer(broker_);
    Peer other(broker_);
    for (Peer* one : {&peer, &other}) one->greet();
    for (int ahead = 0; ahead < 6; ++ahead) {
      const int rider = ahead % 2 == 0 ? peer.fd() : other.fd();
      for (Peer* one : {&peer, &other}) (void)one->send(schema::encode(Request{7, schema::List{}}), rider);
    }
  }
}

TEST_F(BadInputTest, APeerThatNeverReadsFillsItsOwnSocketAndNothingElse) {
  Client setup = broker_.connect();
  for (int i = 0; i < 100; ++i) {
    RegionSpec wanted;
    wanted.name = "root/listed-" + std::to_string(i);
    wanted.size = 4096;
    wanted.lifetime = Lifetime::persistent();
    setup.create(wanted);
  }
  auto resident = [&] {
    std::ifstream status("/proc/" + std::to_string(broker_.pid()) + "/status");
    std::string word;
    while (status >> word && word != "VmRSS:") {
    }
    std::uint64_t kib = 0;
    status >> kib;
    return kib;
  };
  [[maybe_unused]] const std::uint64_t before = resident();
  std::vector<Peer> peers;
  for (int i = 0; i < 20; ++i) {
    peers.emplace_back(broker_);
    peers.back().greet();
    // Ask for full pages until the broker stops reading us.
    int unread = 0;
    for (int round = 0; round < 10000 && unread < 20; ++round) {
      if (peers.back().send(schema::RequestBody(schema::List{}))) {
        unread = 0;
      } else {
        ++unread;
        std::this_thread::sleep_for(1ms);
      }
    }
    EXPECT_EQ(unread, 20) << "the broker took 10,000 requests from a peer that reads nothing";
  }
#ifndef MAPCAP_SANITIZED  // A sanitizer keeps freed memory for a while.
  // Each connection may cost one request, one reply of at most 64 KiB and its bookkeeping.
  EXPECT_LT(resident(), before + 20 * 512 + 8192) << "KiB";
#endif
  for (const RegionInfo& region : setup.list("root/listed-*")) setup.revoke(region.name);
}

TEST_F(BadInputTest, APeerThatDiesWhileItsRequestIsUnderWayLeavesNothing) {
  for (int round = 0; round < 50; ++round) {
    Peer peer(broker_);
    peer.greet();
    schema::Create ask = create_of("root/orphan-" + std::to_string(round));
    ask.lifetime = {LifetimeKind::connection, {}};
    ask.grant = Access::read_write;
    ASSERT_TRUE(peer.send(schema::RequestBody(ask)));
  }
  Client client = broker_.connect();
  EXPECT_TRUE(comes_true([&] { return client.list("root/orphan-*").empty(); }));
}

}  // namespace
}  // namespace mapcap::test
