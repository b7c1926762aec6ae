// Promise 12 in time and space: who floods, stalls or dies harms itself only.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <random>
#include <thread>

#include "tests/support/attackers.h"
#include "tests/support/broker_process.h"
#include "tests/support/busy_machine.h"
#include "tests/support/patience.h"

namespace mapcap::test {
namespace {

using namespace std::chrono_literals;

class HostileTest : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root: it starts mapcapd";
    broker.start();
    descriptors = descriptors_of(broker.pid());
    resident = resident_kib(broker.pid());
  }
  void TearDown() override {
    if (broker.pid() == 0) return;
    // Connections that died while they waited to be accepted come and go for a while: what counts is that
    // the number settles.
    int settled = 0;
    EXPECT_TRUE(comes_true([&] {
      settled = descriptors_of(broker.pid()) <= descriptors + kConnectionsToTheMint ? settled + 1 : 0;
      return settled == 50;
    })) << "descriptors stayed behind: "
        << descriptors_of(broker.pid()) << " of " << descriptors;
#ifndef MAPCAP_SANITIZED  // A sanitizer keeps freed memory for a while.
    // What the attackers may have cost at any moment and the allocator keeps: 64 connections and their
    // packets.
    EXPECT_LT(resident_kib(broker.pid()), resident + 32 * 1024) << "KiB";
#endif
  }

  /// 50 create-map-revoke rounds of a well-behaved client beside whatever goes on; every one must succeed.
  void expect_service() {
    Client client = broker.connect();
    for (int round = 0; round < 50; ++round) {
      RegionSpec wanted;
      wanted.name = "good/region";
      wanted.size = 65536;
      Mapping mapping(client.create(wanted, Access::read_write));
      mapping.writable()[0] = std::byte{1};
      client.revoke("good/region");
    }
  }

  BrokerProcess broker{open_policy("[[quota]]\nany = true\nconnections = 64\ngrants = 128\nregions = 128\n")};
  std::size_t descriptors = 0;
  std::uint64_t resident = 0;
};

TEST_F(HostileTest, AConnectionFloodStopsAtTheUsersLimitAndNobodyElseNotices) {
  const Attacker flood(broker, Attack::connections);
  expect_service();
  // Each connection is a socket and a pidfd of its peer.
  EXPECT_LE(descriptors_of(broker.pid()), descriptors + 2 * 64 + 16);
}

TEST_F(HostileTest, TenThousandRequestsInFlightWaitInTheirSendersOwnSocket) {
  const Attacker flood(broker, Attack::requests);
  expect_service();
}

TEST_F(HostileTest, PacketsOfTheLargestSizeAtFullSpeedCostTheirSenderTheConnection) {
  const Attacker flood(broker, Attack::largest_packets);
  expect_service();
}

TEST_F(HostileTest, AFloodOfGrantsStopsAtTheUsersLimit) {
  RegionSpec wanted;
  wanted.name = kSharedRegion;
  wanted.size = 4096;
  wanted.mode = 0604;
  wanted.lifetime = Lifetime::persistent();
  broker.connect().create(wanted);
  Attacker flood(broker, Attack::grants);
  expect_service();
  EXPECT_LE(broker.connect().show(kSharedRegion).region.grants, 128U);
  flood.end();
  Client client = broker.connect();
  EXPECT_TRUE(comes_true([&] { return client.show(kSharedRegion).region.grants == 0; }));
  client.revoke(kSharedRegion);
}

TEST_F(HostileTest, APeerThatIsStoppedInMidTransferHoldsNobodyUp) {
  const Attacker slow(broker, Attack::deaf);
  std::this_thread::sleep_for(50ms);
  ::kill(slow.pid(), SIGSTOP);
  expect_service();
}

TEST_F(HostileTest, RefusalsRequestsAndMisreadsAtFullSpeedHoldNobodyUp) {
  RegionSpec wanted;
  wanted.name = kSharedRegion;
  wanted.size = 4096;
  wanted.mode = 0604;
  wanted.lifetime = Lifetime::persistent();
  broker.connect().create(wanted);
  for (const Attack attack : {Attack::refused, Attack::churn, Attack::misread}) {
    SCOPED_TRACE(to_string(attack));
    const Attacker flood(broker, attack);
    expect_service();
  }
  broker.connect().revoke(kSharedRegion);
}

TEST_F(HostileTest, APeerMayDieAtAnyStep) {
  std::mt19937 random(3);  // Any seed.
  for (int round = 0; round < 40; ++round) {
    Attacker brief([this] {
      Client client = broker.connect();
      for (int i = 0;; ++i) {
        RegionSpec wanted;
        wanted.name = "brief/" + std::to_string(i);
        wanted.size = 4096;
        const Mapping mapping(client.create(wanted, Access::read_write));
      }
    });
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 20000));
  }
  expect_service();
  Client client = broker.connect();
  EXPECT_TRUE(comes_true([&] { return client.list("brief/**").empty(); }));
  EXPECT_EQ(client.pools().front().used, 0U);
}

TEST_F(HostileTest, AStoppedKeeperDelaysOnlyWhatNeedsANewDescriptor) {  // Promise 9
  Client client = broker.connect();
  RegionSpec wanted;
  wanted.name = "good/kept";
  wanted.size = 4096;
  wanted.lifetime = Lifetime::persistent();
  Mapping mapping(client.create(wanted, Access::read_write));
  const pid_t keeper = broker.keeper_pid();
  ASSERT_GT(keeper, 0);
  ::kill(keeper, SIGSTOP);
  std::thread opener([this] {
    try {
      broker.connect().open("good/kept", Access::read_only);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::timed_out) << error.what();
    }
  });
  auto slowest = FairStopwatch::Clock::duration::zero();
  for (int answered = 0; answered < 200; ++answered) {
    const FairStopwatch stopwatch;
    EXPECT_EQ(client.list().size(), 1U);
    EXPECT_EQ(client.pools().size(), 1U);
    mapping.writable()[0] = std::byte{2};
    slowest = std::max(slowest, stopwatch.took());
    std::this_thread::sleep_for(20ms);
  }
  opener.join();
  // Whoever waits for the keeper waits for two seconds.
  EXPECT_LT(slowest, 500ms) << "the broker stalled with its keeper";
  ::kill(keeper, SIGCONT);
  EXPECT_TRUE(comes_true([&] {
    try {
      const Mapping fresh(client.open("good/kept", Access::read_only));
      return fresh.bytes()[0] == std::byte{2};
    } catch (const Error&) {
      return false;
    }
  }));
  client.revoke("good/kept");
}

}  // namespace
}  // namespace mapcap::test
