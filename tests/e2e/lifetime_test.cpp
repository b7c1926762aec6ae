// What a client is told before its region goes, and when it goes: expiry, and a revoke that drains.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <chrono>
#include <future>
#include <optional>
#include <thread>
#include <vector>

#include "tests/support/broker_process.h"
#include "tests/support/busy_machine.h"
#include "tests/support/patience.h"

namespace mapcap::test {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr std::uint64_t kSize = 1U << 20U;
/// Between the warning and the end a slow machine still has time to renew.
constexpr auto kTtl = 6s;
constexpr auto kWarning = 5s;

/// A client that keeps what it is told, and when.
class Listening {
 public:
  explicit Listening(const BrokerProcess& broker) {
    ConnectOptions options;
    options.on_notice = [this](const Notice& notice) { told_.push_back({notice, Clock::now()}); };
    client.emplace(broker.connect(std::move(options)));
  }

  struct Told {
    Notice notice;
    Clock::time_point when;
  };
  /// Waits for a notice of that kind. Fails the test when none comes.
  Told wait_for(Notice::Kind kind) {
    const auto until = Clock::now() + kPatience;
    while (Clock::now() < until) {
      for (const Told& told : told_) {
        if (told.notice.kind == kind) return told;
      }
      pollfd readable{client->fd(), POLLIN, 0};
      ::poll(&readable, 1, 100);
      client->poll();
    }
    ADD_FAILURE() << "no notice came";
    return {};
  }
  [[nodiscard]] const std::vector<Told>& told() const { return told_; }

  std::optional<Client> client;

 private:
  std::vector<Told> told_;
};

RegionSpec spec(const std::string& name, SealKind seal = SealKind::revocable) {
  RegionSpec wanted;
  wanted.name = name;
  wanted.size = kSize;
  wanted.seal = seal;
  wanted.lifetime = Lifetime::persistent();
  return wanted;
}

bool faults(const Mapping& mapping) {
  std::byte byte{};
  return try_read(mapping, 0, {&byte, 1}) == Touch::revoked;
}

/// The open policy, with clients warned some seconds before a ttl ends.
std::string warning_policy() {
  std::string policy = open_policy();
  const std::string broker = "[broker]\n";
  return policy.insert(policy.find(broker) + broker.size(), "expiring_notice = \"5s\"\n");
}

/// Commands that wait in a drain end with the broker: a test that fails must not wait for them for ever.
class EndsDrains {
 public:
  explicit EndsDrains(BrokerProcess& broker) : broker_(broker) {}
  EndsDrains(const EndsDrains&) = delete;
  EndsDrains& operator=(const EndsDrains&) = delete;
  ~EndsDrains() {
    if (testing::Test::HasFailure() || std::uncaught_exceptions() > 0) broker_.kill_both();
  }

 private:
  BrokerProcess& broker_;
};

class LifetimeTest : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root: it starts mapcapd";
    broker.start();
  }
  BrokerProcess broker{warning_policy()};
};

TEST_F(LifetimeTest, AClientIsWarnedBeforeItsTtlEndsAndTheRegionEndsWithinASecond) {
  Listening creator(broker);
  Listening holder(broker);
  RegionSpec wanted = spec("root/short");
  wanted.lifetime = Lifetime::for_time(kTtl);
  const auto asked = Clock::now();
  creator.client->create(wanted);
  const FairStopwatch since_answer;
  const Mapping mapping(holder.client->open("root/short", Access::read_only));
  for (Listening* listener : {&creator, &holder}) {
    const Listening::Told warned = listener->wait_for(Notice::Kind::expiring);
    EXPECT_EQ(warned.notice.name, "root/short");
    EXPECT_EQ(warned.notice.within, kWarning);
    EXPECT_GE(warned.when, asked + kTtl - kWarning) << "warned too early";
  }
  const Listening::Told ended = holder.wait_for(Notice::Kind::revoked);
  EXPECT_GE(ended.when, asked + kTtl) << "ended before its time";
  EXPECT_LE(since_answer.took(), kTtl + 1s) << "ended more than a second after its time";
  EXPECT_TRUE(faults(mapping));
  EXPECT_EQ(creator.client->list().size(), 1U) << "still held by a mapping, still told";
}

TEST_F(LifetimeTest, ARenewedRegionOutlivesItsWarning) {
  Listening listener(broker);
  RegionSpec wanted = spec("root/renewed");
  wanted.lifetime = Lifetime::for_time(kTtl);
  listener.client->create(wanted);
  listener.wait_for(Notice::Kind::expiring);
  listener.client->renew("root/renewed", 1h);
  std::this_thread::sleep_for(kTtl);
  listener.client->poll();
  EXPECT_EQ(listener.told().size(), 1U);
  EXPECT_EQ(listener.client->show("root/renewed").region.state, RegionState::live);
}

TEST_F(LifetimeTest, ADrainEndsEarlyWhenItsHoldersLetGo) {
  Listening holder(broker);
  Client owner = broker.connect();
  owner.create(spec("root/drained"));
  std::optional<Mapping> mapping(holder.client->open("root/drained", Access::read_write));
  const auto asked = Clock::now();
  std::future<CommandResult> revoke = std::async(std::launch::async, [this] {
    return mapcap(broker, {"revoke", "root/drained", "--drain", "--within", "10m"});
  });
  const Listening::Told told = holder.wait_for(Notice::Kind::revoking);
  EXPECT_EQ(told.notice.name, "root/drained");
  EXPECT_EQ(told.notice.within, 10min);
  EXPECT_FALSE(faults(*mapping)) << "taken away while it drains";
  EXPECT_EQ(revoke.wait_for(100ms), std::future_status::timeout) << "returned while a holder had the region";
  mapping.reset();
  ASSERT_EQ(revoke.wait_for(kPatience), std::future_status::ready);
  EXPECT_EQ(revoke.get().status, 0);
  EXPECT_LT(Clock::now() - asked, 10min);
  // What is cut is answered; that it is put away comes behind.
  EXPECT_TRUE(comes_true([&] { return owner.list().empty(); })) << "nobody held it any more";
}

TEST_F(LifetimeTest, DrainsThatNobodyEndsKeepTheOwnerFromNothing) {  // Promises 5 and 12
  Listening holder(broker);
  Client owner = broker.connect();
  owner.create(spec("root/held"));
  const Mapping mapping(holder.client->open("root/held", Access::read_write));
  std::vector<std::future<CommandResult>> drains;
  const EndsDrains ends_drains(broker);
  for (int i = 0; i < 6; ++i) {  // More than a user may have requests under way.
    drains.push_back(std::async(std::launch::async, [this] {
      return mapcap(broker, {"revoke", "root/held", "--drain"});
    }));
  }
  holder.wait_for(Notice::Kind::revoking);
  for (auto& drain : drains) EXPECT_EQ(drain.wait_for(50ms), std::future_status::timeout);
  EXPECT_EQ(owner.list().size(), 1U);
  EXPECT_FALSE(faults(mapping)) << "taken away while it drains";
  owner.revoke("root/held");
  EXPECT_TRUE(faults(mapping));
  for (auto& drain : drains) {
    ASSERT_EQ(drain.wait_for(kPatience), std::future_status::ready);
    EXPECT_EQ(drain.get().status, 0);
  }
}

TEST_F(LifetimeTest, ADrainIsEnforcedAtItsDeadline) {
  Listening holder(broker);
  Client owner = broker.connect();
  owner.create(spec("root/kept"));
  const Mapping mapping(holder.client->open("root/kept", Access::read_write));
  const auto asked = Clock::now();
  const CommandResult revoked = mapcap(broker, {"revoke", "root/kept", "--drain", "--within", "2s"});
  EXPECT_EQ(revoked.status, 0) << revoked.err;
  EXPECT_GE(Clock::now() - asked, 2s) << "cut before the holder's time was over";
  EXPECT_TRUE(faults(mapping));
  EXPECT_THAT(revoked.out, testing::HasSubstr("charged until 1 grant is let go"));
  const Listening::Told told = holder.wait_for(Notice::Kind::revoking);
  EXPECT_EQ(told.notice.within, 2s);
  holder.wait_for(Notice::Kind::revoked);
}

TEST_F(LifetimeTest, WhileADrainWaitsNobodyElseGetsTheRegion) {
  Client owner = broker.connect();
  owner.create(spec("root/closing"));
  std::optional<Mapping> mapping(owner.open("root/closing", Access::read_only));
  std::future<CommandResult> revoke = std::async(std::launch::async, [this] {
    return mapcap(broker, {"revoke", "root/closing", "--drain", "--within", "10m"});
  });
  const EndsDrains ends_drains(broker);
  Client other = broker.connect();
  while (other.show("root/closing").region.state == RegionState::live) std::this_thread::sleep_for(1ms);
  try {
    other.open("root/closing", Access::read_only);
    ADD_FAILURE() << "a region that is being drained was handed out";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::busy) << error.what();
  }
  mapping.reset();
  EXPECT_EQ(revoke.get().status, 0);
}

}  // namespace
}  // namespace mapcap::test
