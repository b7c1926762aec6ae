// Whoever connects to an endpoint while no broker lives waits for the next one, and nobody waits for what has ended. Ends that
// nobody asked for, and with a ledger that is full.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <chrono>
#include <csignal>
#include <cstring>
#include <future>
#include <vector>

#include "tests/support/endpoints.h"
#include "tests/support/patience.h"
#include "tests/support/tiny_filesystem.h"

namespace mapcap::test {
namespace {

using namespace std::chrono_literals;
using EndpointQueueTest = EndpointTest;

TEST_F(EndpointQueueTest, AnEndByTimeLeavesARecordOfItsMaker) {
  BrokerProcess broker(open_policy("[[rule]]\nuser = 64002\nverbs = [\"endpoint\"]\n"));
  broker.start();
  ASSERT_EQ(as_user(64002,
                    [&] {
                      EndpointSpec wanted = spec("short");
                      wanted.ttl = 1s;
                      broker.connect().endpoint_create(wanted);
                      return 0;
                    }),
            0);
  EXPECT_TRUE(comes_true([&] {
    return broker.log().find(
               "verb=endpoint-end verdict=allowed name=short maker=64002 maker_uid=64002 rule=ttl") !=
           std::string::npos;
  })) << broker.log();
}

/// A connection that nobody has accepted; not valid when it was refused, with errno.
Fd queued(const std::string& directory) {
  Fd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = directory + "/mapcap.sock";
  std::memcpy(address.sun_path, path.data(), path.size());
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return {};
  return fd;
}

TEST_F(EndpointQueueTest, WhoConnectsWhileNoBrokerLivesIsServedByTheNext) {
  BrokerProcess broker;
  broker.start();
  broker.connect().endpoint_create(spec("c1"));
  const Fd mount = broker.connect().endpoint_directory("c1");
  for (const bool keeper_dies : {false, true}) {
    if (keeper_dies) {
      const pid_t before = broker.keeper_pid();
      broker.kill_keeper();
      // The next has it too.
      ASSERT_TRUE(comes_true([&] {
        const BrokerStatus status = broker.connect().status();
        return static_cast<pid_t>(status.keeper.pid) != before && status.keeper.serving &&
               status.keeper.sockets == 1;
      }));
    }
    broker.kill_broker();
    EXPECT_TRUE(queued(directory_of(broker, "c1")).valid()) << "refused while no broker lives";
    std::future<std::size_t> waiting = std::async(std::launch::async, [&] {
      ConnectOptions options = BrokerProcess::patient();
      options.socket = by_descriptor(mount);
      options.reconnect_within = 0ms;
      return Client::connect(options).list().size();
    });
    // It is in the queue now, or will be: it is refused in neither case.
    broker.start();
    EXPECT_EQ(waiting.get(), 0U);
    EXPECT_NO_THROW(at(by_descriptor(mount)).list());
  }
  broker.connect().endpoint_end("c1");
  broker.kill_broker();
  EXPECT_FALSE(queued(directory_of(broker, "c1")).valid()) << "what has ended is held by nobody";
}

TEST_F(EndpointQueueTest, TheLibraryWaitsWhereTheQueueIsFull) {
  BrokerProcess broker;
  broker.start();
  broker.connect().endpoint_create(spec("c1"));
  broker.kill_broker();
  std::vector<Fd> crowd;
  for (Fd next = queued(directory_of(broker, "c1")); next.valid(); next = queued(directory_of(broker, "c1")))
    crowd.push_back(std::move(next));
  EXPECT_EQ(errno, EAGAIN);
  EXPECT_GT(crowd.size(), 60U);
  std::future<std::size_t> waiting = std::async(std::launch::async, [&] {
    ConnectOptions options = BrokerProcess::patient();
    options.socket = directory_of(broker, "c1") + "/mapcap.sock";
    options.reconnect_within = 0ms;
    return Client::connect(options).list().size();
  });
  broker.start();
  EXPECT_EQ(waiting.get(), 0U);
}

TEST_F(EndpointQueueTest, WhoWaitsInTheQueueOfOneThatEndsIsSentAway) {
  BrokerProcess broker;
  broker.set_program(MAPCAPD_FAULTS_PATH);
  broker.set_environment({"MAPCAP_DIE_AT=endpoint-ending"});
  broker.start();
  {
    ConnectOptions options;
    options.reconnect_within = 0ms;
    Client root = broker.connect(options);
    root.endpoint_create(spec("c1"));
    EXPECT_THROW(root.endpoint_end("c1"), Error);
  }
  ASSERT_TRUE(broker.await_end());
  const Fd waiting = queued(directory_of(broker, "c1"));
  ASSERT_TRUE(waiting.valid()) << "the keeper has the socket of what was ending, too";
  broker.set_environment({});
  broker.start();
  EXPECT_TRUE(comes_true([&] {
    char byte = 0;
    const ssize_t got = ::recv(waiting.get(), &byte, 1, MSG_DONTWAIT);
    return got == 0 || (got < 0 && errno == ECONNRESET);
  })) << "somebody waits for an endpoint that is no more";
  EXPECT_TRUE(comes_true([&] { return broker.connect().endpoints().empty(); }));
}

TEST_F(EndpointQueueTest, AfterAnOrderlyStopNobodyWaitsForABrokerThatDoesNotCome) {
  BrokerProcess broker;
  broker.start();
  broker.connect().endpoint_create(spec("c1"));
  EXPECT_EQ(broker.terminate(), 0);
  EXPECT_FALSE(queued(directory_of(broker, "c1")).valid());
  EXPECT_EQ(errno, ECONNREFUSED);
  EXPECT_TRUE(comes_true([&] { return broker.keeper_pid() == 0; })) << "a socket alone keeps no keeper";
  broker.start();
  EXPECT_NO_THROW(through(broker, "c1").list());
}

// A full ledger keeps room for changes of what it has: who must end something can.
TEST_F(EndpointQueueTest, AFullLedgerStillTakesAnEnd) {
  const TinyFilesystem tiny("2M");  // A ledger of 4096 records and no larger one.
  if (!tiny.mounted()) GTEST_SKIP() << "no tmpfs can be mounted here";
  BrokerProcess broker(open_policy("[[quota]]\nuser = 0\nregions = 100000\n"), tiny.path());
  broker.start();
  Client root = broker.connect();
  root.endpoint_create(spec("c1"));
  through(broker, "c1").create(region("x/a"));
  const auto fill = [&] {
    for (int i = 0; i < 5000; ++i) root.create(region("root/" + std::to_string(i)));
  };
  EXPECT_EQ(refused(fill, "a ledger without end"), ErrorCode::io);
  EXPECT_EQ(root.endpoint_end("c1").revoked, 1U);
  EXPECT_TRUE(root.list("x/**").empty());
}

}  // namespace
}  // namespace mapcap::test
