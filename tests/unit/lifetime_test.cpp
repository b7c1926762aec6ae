// A ttl across clock steps, suspend and reboots; connections and their grace; turns.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "broker/books/connections.h"
#include "broker/regions/clock.h"
#include "broker/regions/expiry.h"
#include "broker/turns/fair_gate.h"
#include "tests/support/loop_harness.h"

namespace mapcap::broker {
namespace {

using namespace std::chrono_literals;

constexpr std::int64_t kSecond = 1'000'000'000;

class FakeClock final : public Clock {
 public:
  [[nodiscard]] std::int64_t boot_ns() const override { return boot; }
  [[nodiscard]] std::int64_t unix_ns() const override { return unix; }
  std::int64_t boot = 1000 * kSecond;
  std::int64_t unix = 1'700'000'000 * kSecond;
};

const ledger::BootId kThisBoot{1};
const ledger::BootId kNextBoot{2};

class TtlTest : public testing::Test {
 protected:
  TtlTest() { start_ttl(record, 1h, kThisBoot, clock); }
  FakeClock clock;
  ledger::RegionRecord record;
};

TEST_F(TtlTest, AStepOfTheWallClockForwardOrBackChangesNothingWithinABoot) {
  clock.boot += 600 * kSecond;
  for (const std::int64_t step : {-100'000 * kSecond, 100'000 * kSecond}) {
    clock.unix += step;
    EXPECT_EQ(remaining(record, kThisBoot, clock), 50min);
  }
}

TEST_F(TtlTest, SuspendCountsBecauseTheBootClockGoesOn) {
  clock.boot += 3599 * kSecond;
  EXPECT_EQ(remaining(record, kThisBoot, clock), 1s);
  clock.boot += 10'000 * kSecond;
  EXPECT_EQ(remaining(record, kThisBoot, clock), 0s);
}

TEST_F(TtlTest, AcrossAReBootTheWallClockDecides) {
  clock.boot = 5 * kSecond;
  clock.unix += 1800 * kSecond;
  EXPECT_EQ(remaining(record, kNextBoot, clock), 30min);
  EXPECT_EQ(record.boot, kNextBoot);
  clock.boot += 60 * kSecond;
  EXPECT_EQ(remaining(record, kNextBoot, clock), 29min) << "the record was not rebased on the new boot";
}

TEST_F(TtlTest, AWallClockSetBackWhileTheMachineWasOffCannotImmortaliseARegion) {
  clock.boot = 5 * kSecond;
  clock.unix -= 1'000'000 * kSecond;
  EXPECT_EQ(remaining(record, kNextBoot, clock), 1h);
}

TEST_F(TtlTest, AWallClockSetForwardWhileTheMachineWasOffEndsItAtOnceAndNeverBelowZero) {
  clock.boot = 5 * kSecond;
  clock.unix += 1'000'000 * kSecond;
  EXPECT_EQ(remaining(record, kNextBoot, clock), 0s);
}

class ExpiryTest : public testing::Test {
 protected:
  test::StillLoop harness;
  std::vector<std::uint64_t> expired;
  std::vector<std::uint64_t> warned;
  Expiry expiry{harness.loop,
                {[this](RegionId id) {
                   expired.push_back(id.value);
                   note_turn();
                 },
                 [this](RegionId id, std::chrono::nanoseconds) { warned.push_back(id.value); }}};

  /// Ends that were over when somebody else next had the loop.
  std::vector<std::size_t> ends_before_others;
  std::size_t ends = 0;
  void note_turn() {
    ++ends;
    harness.loop.post([this] { ends_before_others.push_back(ends); });
  }

  void pass(std::chrono::nanoseconds time) { harness.time.advance(harness.loop, time); }
};

TEST_F(ExpiryTest, RegionsEndInTheOrderOfTheirTimesWhateverTheOrderOfScheduling) {
  expiry.schedule(RegionId{3}, 30min);
  expiry.schedule(RegionId{1}, 10min);
  expiry.schedule(RegionId{2}, 20min);
  pass(1h);
  EXPECT_THAT(expired, testing::ElementsAre(1, 2, 3));
}

TEST_F(ExpiryTest, ARegionEndsAtItsTimeAndNotBefore) {
  expiry.schedule(RegionId{1}, 10min);
  pass(10min - 1ns);
  EXPECT_THAT(expired, testing::IsEmpty());
  pass(1ns);
  EXPECT_THAT(expired, testing::ElementsAre(1));
}

TEST_F(ExpiryTest, RenewingReplacesAndForgettingRemoves) {
  expiry.schedule(RegionId{1}, 10min);
  expiry.schedule(RegionId{2}, 10min);
  expiry.schedule(RegionId{1}, 2h);
  expiry.forget(RegionId{2});
  pass(2h - 1ns);
  EXPECT_THAT(expired, testing::IsEmpty());
  pass(1ns);
  EXPECT_THAT(expired, testing::ElementsAre(1));
}

TEST_F(ExpiryTest, AWarningComesAheadButNotForATtlThatIsShorterThanIt) {
  expiry.set_warning(20min);
  expiry.schedule(RegionId{1}, 40min);
  expiry.schedule(RegionId{2}, 10min);
  pass(20min - 1ns);
  EXPECT_THAT(warned, testing::IsEmpty());
  pass(1ns);
  EXPECT_THAT(warned, testing::ElementsAre(1));
  EXPECT_THAT(expired, testing::ElementsAre(2));
  pass(20min);
  EXPECT_THAT(expired, testing::ElementsAre(2, 1));
  EXPECT_THAT(warned, testing::ElementsAre(1));
}

TEST_F(ExpiryTest, RegionsThatEndTogetherLeaveOthersTheirTurns) {  // Promise 12
  for (std::uint64_t id = 1; id <= 3; ++id) expiry.schedule(RegionId{id}, 10min);
  pass(10min);
  EXPECT_THAT(expired, testing::ElementsAre(1, 2, 3));
  EXPECT_THAT(ends_before_others, testing::ElementsAre(1, 2, 3));
}

TEST_F(ExpiryTest, WhoRenewsWithoutAPauseHasNobodyWarnedWithoutAPause) {  // Promise 12
  expiry.set_warning(80min);
  for (int i = 0; i < 5; ++i) {
    expiry.schedule(RegionId{1}, 81min);
    pass(3min);
  }
  EXPECT_THAT(warned, testing::IsEmpty());
}

TEST_F(ExpiryTest, NothingStaysBehindOfWhatWasForgottenRenewedOrHasEnded) {
  expiry.set_warning(1min);
  for (std::uint64_t id = 1; id <= 100; ++id) {
    expiry.schedule(RegionId{id}, 1h);
    expiry.schedule(RegionId{id}, id % 2 == 0 ? 2h : 10min);
    EXPECT_EQ(expiry.pending(), id % 2 == 0 ? id + 2 : id + 1) << "an end and a warning each";
    if (id % 2 == 0) expiry.forget(RegionId{id});
  }
  pass(10min);
  EXPECT_EQ(expired.size(), 50U);
  EXPECT_EQ(expiry.pending(), 0U);
}

class ConnectionsTest : public ExpiryTest {
 protected:
  ConnectionsTest() { connections.set_grace(20s); }
  std::vector<std::uint64_t> ended;
  Connections connections{harness.loop, [this](RegionId id) {
                            ended.push_back(id.value);
                            note_turn();
                          }};
};

TEST_F(ConnectionsTest, RegionsEndAfterTheGracePeriod) {
  const Token token = connections.open(1000);
  connections.enrol(token, RegionId{7});
  connections.closed(token);
  pass(20s - 1ns);
  EXPECT_THAT(ended, testing::IsEmpty());
  pass(1ns);
  EXPECT_THAT(ended, testing::ElementsAre(7));
}

TEST_F(ConnectionsTest, RegionsThatEndTogetherLeaveOthersTheirTurns) {  // Promise 12
  const Token token = connections.open(1000);
  for (std::uint64_t id = 1; id <= 3; ++id) connections.enrol(token, RegionId{id});
  connections.closed(token);
  pass(20s);
  EXPECT_THAT(ended, testing::ElementsAre(1, 2, 3));
  EXPECT_THAT(ends_before_others, testing::ElementsAre(1, 2, 3));
}

TEST_F(ConnectionsTest, WhoComesBackInTimeKeepsThem) {
  const Token token = connections.open(1000);
  connections.enrol(token, RegionId{7});
  connections.closed(token);
  EXPECT_TRUE(connections.resume(token, 1000));
  pass(1h);
  EXPECT_THAT(ended, testing::IsEmpty());
}

TEST_F(ConnectionsTest, ATokenIsGoodForItsUserOnceAndOnlyWhileNobodyUsesIt) {
  const Token token = connections.open(1000);
  connections.enrol(token, RegionId{7});
  EXPECT_FALSE(connections.resume(token, 1000)) << "it is connected";
  connections.closed(token);
  EXPECT_FALSE(connections.resume(token, 1001)) << "another user";
  EXPECT_FALSE(connections.resume(Token{}, 1000)) << "nobody's token";
  EXPECT_TRUE(connections.resume(token, 1000));
  EXPECT_FALSE(connections.resume(token, 1000)) << "twice";
}

TEST_F(ConnectionsTest, AfterARestartTheGracePeriodBeginsAnew) {
  const Token token{9};
  connections.restore(token, 1000, RegionId{7});
  EXPECT_TRUE(connections.resume(token, 1000));
  connections.closed(token);
  pass(20s);
  EXPECT_THAT(ended, testing::ElementsAre(7));
}

TEST_F(ConnectionsTest, ACreateThatEndsAfterItsConnectionDidEndsToo) {
  const Token token = connections.open(1000);
  connections.closed(token);
  connections.enrol(token, RegionId{7});
  pass(0ns);
  EXPECT_THAT(ended, testing::ElementsAre(7));
}

TEST_F(ConnectionsTest, NothingStaysBehindOfConnectionsAndRegionsThatEnded) {
  for (std::uint64_t id = 1; id <= 100; ++id) {
    const Token token = connections.open(1000);
    connections.enrol(token, RegionId{id});
    if (id % 2 == 0) connections.forget(token, RegionId{id});
    connections.closed(token);
    if (id % 4 == 1) connections.forget(token, RegionId{id});  // Ended while its grace period ran.
  }
  EXPECT_EQ(connections.bonds(), 25U);
  EXPECT_EQ(connections.regions(), 25U);
  pass(20s);
  EXPECT_EQ(ended.size(), 25U);
  EXPECT_EQ(connections.bonds(), 0U);
}

class FairGateTest : public testing::Test {
 protected:
  test::StillLoop harness;
  FairGate gate{harness.loop};
  std::vector<uid_t> served;
  /// Of the loop, in which nobody else is served: a request's own time, and the rests between.
  static constexpr auto kRequest = Ration::kBurst / 10;

  Task<void> request(uid_t uid, std::uint64_t connection) {
    FairGate::Turn turn = co_await gate.turn(uid, connection);
    served.push_back(uid);
    harness.time.work(kRequest);
    co_await harness.loop.yield();
  }
};

TEST_F(FairGateTest, AFloodersQueueDelaysAnotherUserByOneRequestOnly) {
  for (int i = 0; i < 1000; ++i) spawn(request(1, static_cast<std::uint64_t>(i)));
  spawn(request(2, 5000));
  harness.time.advance(harness.loop, 1000 * kRequest * Ration::kShares);
  ASSERT_EQ(served.size(), 1001U);
  const auto other = std::find(served.begin(), served.end(), 2U) - served.begin();
  EXPECT_LE(other, 2) << "the other user waited for " << other << " requests of the flooder";
}

/// One that does not wait within.
Task<void> brief_request(FairGate& gate, std::vector<uid_t>& served, uid_t uid, std::uint64_t connection) {
  const FairGate::Turn turn = co_await gate.turn(uid, connection);
  served.push_back(uid);
}

TEST_F(FairGateTest, AConnectionThatComesBackIsServedAtOnceWhereNobodyWaits) {
  spawn(request(1, 10));
  harness.time.advance(harness.loop, 1s);
  ASSERT_EQ(served.size(), 1U);
  spawn(request(1, 10));
  EXPECT_EQ(served.size(), 2U) << "without a way through the loop";
  harness.time.advance(harness.loop, 1s);  // It ends.
}

TEST_F(FairGateTest, OfAUsersConnectionsOneAtMostIsServedAtOnceBetweenTwoLooks) {
  for (std::uint64_t connection = 10; connection < 20; ++connection) {
    spawn(brief_request(gate, served, 1, connection));
    harness.time.advance(harness.loop, 1s);
  }
  served.clear();
  // All of them are ready at one look; the last one that asked comes first.
  for (std::uint64_t connection = 20; connection-- > 10;) spawn(brief_request(gate, served, 1, connection));
  EXPECT_EQ(served.size(), 1U);
  spawn(brief_request(gate, served, 2, 5000));
  harness.time.advance(harness.loop, 1s);
  ASSERT_EQ(served.size(), 11U);
  EXPECT_LE(std::find(served.begin(), served.end(), 2U) - served.begin(), 2);
}

}  // namespace
}  // namespace mapcap::broker
