// What rides on strangers' packets: whoever drops the last reference to it may sleep for as long as they
// please, so that must never be the broker. On a kernel that refuses descriptors (Linux 6.16), and as on one
// before.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/newer_linux.h"
#include "schema/channel.h"
#include "schema/codec.h"
#include "tests/support/attackers.h"
#include "tests/support/broker_process.h"
#include "tests/support/busy_machine.h"
#include "tests/support/lingering.h"
#include "tests/support/patience.h"

namespace mapcap::test {
namespace {

using namespace std::chrono_literals;
using schema::Reply;
using schema::Request;

/// One raw connection.
class RawPeer {
 public:
  explicit RawPeer(const BrokerProcess& broker)
      : socket_(std::move(schema::connect_to(broker.socket()).value())) {}

  /// False when the kernel refuses it.
  bool send(const std::vector<std::byte>& bytes, BorrowedFd rider = {}) const {
    // Also packets of no bytes, which schema::send does not send.
    return send_to(socket_.get(), bytes, rider);
  }
  static bool send_to(int socket, const std::vector<std::byte>& bytes, BorrowedFd rider) {
    iovec data{const_cast<std::byte*>(bytes.data()), bytes.size()};
    msghdr header{};
    header.msg_iov = &data;
    header.msg_iovlen = 1;
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
    if (rider.valid()) {
      header.msg_control = control.data();
      header.msg_controllen = control.size();
      cmsghdr* part = CMSG_FIRSTHDR(&header);
      part->cmsg_level = SOL_SOCKET;
      part->cmsg_type = SCM_RIGHTS;
      part->cmsg_len = CMSG_LEN(sizeof(int));
      *reinterpret_cast<int*>(CMSG_DATA(part)) = rider.get();
    }
    return ::sendmsg(socket, &header, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0;
  }

  struct Heard {
    schema::ReplyBody body;
    Fd fd;
  };
  /// Nothing when the broker ended the connection, or says nothing.
  std::optional<Heard> ask(const schema::RequestBody& body, BorrowedFd rider = {}) {
    send(schema::encode(Request{++last_, body}), rider);
    pollfd waiting{socket_.get(), POLLIN, 0};
    if (::poll(&waiting, 1, kPatienceMs) != 1) return std::nullopt;
    auto received = schema::receive(socket_.borrow(), schema::kMaxPacket, 1);
    if (!received || !std::holds_alternative<schema::Incoming>(received.value())) return std::nullopt;
    auto& packet = std::get<schema::Incoming>(received.value());
    auto decoded = schema::decode_from_broker(packet.bytes);
    if (!decoded) return std::nullopt;
    Heard heard{std::move(std::get<Reply>(decoded.value()).body), {}};
    if (!packet.fds.empty()) heard.fd = std::move(packet.fds.front());
    return heard;
  }
  void greet() {
    schema::Hello hello;
    hello.features = schema::kFeatureSendsFds;  // As libmapcap 0.1.0 does.
    ask(hello);
  }

 private:
  Fd socket_;
  std::uint64_t last_ = 0;
};

/// How a passenger gets to the broker. `prepare` is called while the broker serves, what it returns while it is
/// stopped: whatever it sends waits in a queue until the sender has let go of it.
using Send = std::function<void(BorrowedFd passenger)>;
struct Way {
  const char* name;
  std::function<Send(const BrokerProcess&)> prepare;
};

std::vector<Way> ways() {
  const std::vector<std::byte> nonsense(24, std::byte{0x41});
  const auto greeted = [](const BrokerProcess& broker) {
    auto peer = std::make_shared<RawPeer>(broker);
    peer->greet();
    return peer;
  };
  const auto on_packet = [=](const std::vector<std::byte>& packet) {
    return [=](const BrokerProcess& broker) -> Send {
      return [peer = greeted(broker), packet](BorrowedFd passenger) { peer->send(packet, passenger); };
    };
  };
  const auto to_port = [=](bool ask) {
    return [=](const BrokerProcess& broker) -> Send {
      auto peer = greeted(broker);
      auto port = std::make_shared<RawPeer::Heard>(std::move(peer->ask(schema::AskClonePort{}).value()));
      // Bound before the lambda: that the peer goes with it is what ends the connection.
      return [peer, port, ask, nonsense](BorrowedFd passenger) mutable {
        for (int i = 0; i < 3; ++i) RawPeer::send_to(port->fd.get(), nonsense, passenger);
        const std::uint64_t ticket = std::get<schema::ClonePort>(port->body).ticket;
        if (ask) peer->send(schema::encode(Request{9, schema::CloneFd{Access::read_only, ticket}}));
        if (!ask) peer.reset();
      };
    };
  };
  return {
      {"on a request", on_packet(schema::encode(Request{9, schema::List{}}))},
      {"on nonsense", on_packet(nonsense)},
      {"on a packet of no bytes", on_packet({})},
      {"on the clone request of libmapcap 0.1.0", on_packet(schema::encode(Request{9, schema::CloneFd{}}))},
      {"before the connection is accepted, which ends at once",
       [=](const BrokerProcess& broker) -> Send {
         return [&broker, nonsense](BorrowedFd passenger) {
           const RawPeer peer(broker);
           peer.send({}, {});
           peer.send(nonsense, passenger);
         };
       }},
      {"to a port, and a clone is asked for", to_port(true)},
      {"to a port that ends with its connection", to_port(false)},
  };
}

/// Whether the broker's kernel refuses descriptors, or it is made to believe that it does not.
class StrangeDescriptorsTest : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root: it starts mapcapd";
    if (GetParam()) {
      const Fd socket(::socket(AF_UNIX, SOCK_SEQPACKET, 0));
      const int off = 0;
      if (::setsockopt(socket.get(), SOL_SOCKET, SO_PASSRIGHTS, &off, sizeof off) != 0)
        GTEST_SKIP() << "needs Linux 6.16: this kernel cannot refuse descriptors";
    } else {
      broker.set_program(MAPCAPD_FAULTS_PATH);
      broker.set_environment({"MAPCAP_DESCRIPTORS_RIDE=1"});
    }
    broker.start();
  }

  /// Far less than any lingering passenger takes, far more than this needs on a busy machine.
  static constexpr std::chrono::seconds kSoon{kLingerSeconds / 2};

  void expect_requests_go_on() {
    const FairStopwatch stopwatch;
    Client client = broker.connect();
    for (int round = 0; round < 100; ++round) client.list();
    const int file = ::memfd_create("passed", MFD_CLOEXEC);
    ASSERT_EQ(::ftruncate(file, 4096), 0);
    EXPECT_EQ(client.clone(file, Access::read_only).size(), 4096U);
    ::close(file);
    EXPECT_LT(stopwatch.took(), kSoon) << "somebody waited for a stranger's socket";
  }

  /// A plain user sends two passengers that way, and lets go of them before the broker sees them.
  std::unique_ptr<Attacker> attack(const Way& way) {
    std::array<int, 2> news{};
    std::array<int, 2> go{};
    EXPECT_EQ(::pipe2(news.data(), O_CLOEXEC), 0);
    EXPECT_EQ(::pipe2(go.data(), O_CLOEXEC), 0);
    auto attacker = std::make_unique<Attacker>([this, &way, news, go] {
      std::array<Lingering, 2> passengers;
      std::vector<Send> sends;
      for (std::size_t i = 0; i < passengers.size(); ++i) sends.push_back(way.prepare(broker));
      char byte = 0;
      (void)!::write(news[1], "p", 1);
      (void)!::read(go[0], &byte, 1);
      for (std::size_t i = 0; i < passengers.size(); ++i) {
        sends[i](passengers.at(i).socket.borrow());
        // Lingers here where the kernel refused it.
        std::thread([socket = passengers.at(i).socket.release()] { ::close(socket); }).detach();
      }
      std::this_thread::sleep_for(200ms);  // Those threads have begun.
      (void)!::write(news[1], "d", 1);
      for (;;) ::pause();
    });
    const auto await = [&] {
      pollfd heard{news[0], POLLIN, 0};
      char byte = 0;
      return ::poll(&heard, 1, kPatienceMs) == 1 && ::read(news[0], &byte, 1) == 1;
    };
    EXPECT_TRUE(await()) << "nothing was prepared";
    broker.signal(SIGSTOP);
    (void)!::write(go[1], "g", 1);
    EXPECT_TRUE(await()) << "nothing was sent";
    broker.signal(SIGCONT);
    for (const int end : {news[0], news[1], go[0], go[1]}) ::close(end);
    return attacker;
  }

  BrokerProcess broker;
};

TEST_P(StrangeDescriptorsTest, ALingeringSocketHoldsNobodyUpWhateverItRidesOn) {  // Promise 12
  for (const Way& way : ways()) {
    SCOPED_TRACE(way.name);
    const auto attacker = attack(way);
    expect_requests_go_on();
    // All that the attacker has ends with it.
    attacker->end();
    expect_requests_go_on();
  }
}

TEST_P(StrangeDescriptorsTest, ABrokerThatStopsWaitsForNoPassenger) {
  const std::vector<Way> all = ways();
  const auto attacker = attack(all.front());
  const auto to_port = attack(all.back());
  const FairStopwatch stopwatch;
  EXPECT_EQ(broker.terminate(), 0);
  EXPECT_LT(stopwatch.took(), kSoon);
}

INSTANTIATE_TEST_SUITE_P(Kernels, StrangeDescriptorsTest, testing::Bool(),
                         [](const auto& tested) { return tested.param ? "Refusing" : "Riding"; });

class ExaminerTest : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root: it starts mapcapd";
    broker.start();
  }

  /// The broker's child of that name; 0 when there is none.
  [[nodiscard]] pid_t examiner() const {
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
      const std::string status = status_of(entry.path());
      if (status.find("Name:\tmapcapd-examine\n") == std::string::npos) continue;
      if (status.find("PPid:\t" + std::to_string(broker.pid()) + "\n") == std::string::npos) continue;
      if (status.find("State:\tZ") == std::string::npos) return std::stoi(entry.path().filename());
    }
    return 0;
  }
  static std::string status_of(const std::filesystem::path& process) {
    std::ifstream file(process / "status");
    return {std::istreambuf_iterator<char>(file), {}};
  }
  void expect_clones() {
    const int file = ::memfd_create("passed", MFD_CLOEXEC);
    ASSERT_EQ(::ftruncate(file, 4096), 0);
    EXPECT_EQ(broker.connect().clone(file, Access::read_only).size(), 4096U);
    ::close(file);
  }

  BrokerProcess broker;
};

TEST_F(ExaminerTest, OneServesAllClonesWithoutAnyPrivilege) {
  const pid_t serving = examiner();
  ASSERT_GT(serving, 0);
  for (int i = 0; i < 50; ++i) expect_clones();
  EXPECT_EQ(examiner(), serving);
  const std::string status = status_of("/proc/" + std::to_string(serving));
  EXPECT_NE(status.find("CapEff:\t0000000000000000\n"), std::string::npos) << status;
  EXPECT_NE(status.find("CapBnd:\t0000000000000000\n"), std::string::npos) << status;
  EXPECT_NE(status.find("NoNewPrivs:\t1\n"), std::string::npos) << status;
  EXPECT_NE(status.find("Seccomp:\t2\n"), std::string::npos) << status;
}

TEST_F(ExaminerTest, OneThatDiesOrHangsIsReplacedAndClonesSucceed) {  // Promise 9
  pid_t before = examiner();
  ASSERT_GT(before, 0);
  for (const int number : {SIGKILL, SIGSTOP}) {
    ::kill(before, number);
    expect_clones();
    const pid_t after = examiner();
    EXPECT_NE(after, before) << "signal " << number;
    EXPECT_GT(after, 0);
    before = after;
  }
}

TEST_F(ExaminerTest, ItEndsWithItsBroker) {
  const pid_t serving = examiner();
  ASSERT_GT(serving, 0);
  broker.kill_broker();
  EXPECT_TRUE(comes_true([&] {
    return ::kill(serving, 0) != 0 ||
           status_of("/proc/" + std::to_string(serving)).find("State:\tZ") != std::string::npos;
  }));
}

TEST_F(ExaminerTest, PortsThatOthersKeepLeaveSomeForRoot) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  std::vector<pid_t> hoarders;
  for (uid_t uid = 64001; uid <= 64016; ++uid) {
    hoarders.push_back(::fork());
    if (hoarders.back() != 0) continue;
    if (::setresgid(uid, uid, uid) != 0 || ::setresuid(uid, uid, uid) != 0) ::_exit(1);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    std::vector<std::unique_ptr<RawPeer>> peers;
    std::vector<Fd> ports;
    for (std::size_t i = 0; i < 20; ++i) {
      peers.push_back(std::make_unique<RawPeer>(broker));
      peers.back()->greet();
      auto port = peers.back()->ask(schema::AskClonePort{});
      if (!port || !std::holds_alternative<schema::ClonePort>(port->body)) break;
      ports.push_back(std::move(port->fd));
    }
    (void)!::write(ends[1], "d", 1);
    for (;;) ::pause();
  }
  for (std::size_t i = 0; i < hoarders.size(); ++i) {
    pollfd ready{ends[0], POLLIN, 0};
    char byte = 0;
    ASSERT_EQ(::poll(&ready, 1, kPatienceMs), 1);
    ASSERT_EQ(::read(ends[0], &byte, 1), 1);
  }
  EXPECT_EQ(as_user(64020,
                    [&] {
                      RawPeer peer(broker);
                      peer.greet();
                      const auto port = peer.ask(schema::AskClonePort{});
                      const auto* error = port ? std::get_if<Failure>(&port->body) : nullptr;
                      return error != nullptr && error->code == ErrorCode::exhausted ? 0 : 1;
                    }),
            0)
      << "16 users with 16 ports each should have had all";
  expect_clones();  // As root.
  for (const pid_t pid : hoarders) {
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
  }
  for (std::size_t i = 0; i < 2; ++i) ::close(ends.at(i));
}

}  // namespace
}  // namespace mapcap::test
