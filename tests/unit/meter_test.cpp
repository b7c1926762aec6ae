// Promise 12: what a request costs is its user's, whatever it waits for.
#include "broker/wait/meter.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <vector>

#include "broker/ledger/table/key_locks.h"
#include "broker/turns/fair_gate.h"
#include "broker/wait/event.h"
#include "schema/channel.h"
#include "tests/support/loop_harness.h"
#include "tests/support/patience.h"

namespace mapcap::broker {
namespace {

using namespace std::chrono_literals;

constexpr uid_t kUser = 5;
constexpr uid_t kOther = 6;

class MeterTest : public testing::Test {
 protected:
  /// Runs `wait` for kUser, with work for kOther in between: on whose account it went on.
  Meter::Account account_after(Task<void> wait) {
    Meter::Account found;
    bool ended = false;
    loop_.post([&] {
      const Meter::Scope scope(loop_.meter(), kUser);
      spawn(observe(std::move(wait), found, ended));
    });
    loop_.post([this] {
      const Meter::Scope scope(loop_.meter(), kOther);
      spawn(come_back(loop_));
    });
    // Both tasks, to their ends: what a worker does comes back to the loop in its own time.
    harness_.time.advance(loop_, 1s);
    EXPECT_TRUE(test::comes_true([&] {
      loop_.run_ready();
      return ended && came_back_;
    }));
    EXPECT_EQ(loop_.meter().account(), Meter::Account()) << "work after a wait was not ended";
    return found;
  }

  void work(Meter::Time cost) { harness_.time.work(cost); }

  test::StillLoop harness_;
  Loop& loop_ = harness_.loop;

 private:
  Task<void> observe(Task<void> wait, Meter::Account& found, bool& ended) {
    co_await std::move(wait);
    found = loop_.meter().account();
    ended = true;
  }
  Task<void> come_back(Loop& loop) {
    came_back_ = false;
    for (int i = 0; i < 5; ++i) co_await loop.yield();
    came_back_ = true;
  }
  bool came_back_ = false;
};

TEST_F(MeterTest, WhoeverWaitsGoesOnOnItsOwnAccount) {
  EXPECT_EQ(account_after([](Loop& loop) -> Task<void> { co_await loop.sleep(1s); }(loop_)), kUser);
  EXPECT_EQ(account_after([](Loop& loop) -> Task<void> { co_await loop.yield(); }(loop_)), kUser);
  EXPECT_EQ(account_after([](Worker& worker) -> Task<void> {
              (void)co_await worker.run([] { return 1; });
            }(harness_.worker)),
            kUser);

  Event event(loop_);
  const Loop::Timer soon = loop_.after(1s, [&event] { event.notify(); });
  EXPECT_EQ(account_after([](Event& one) -> Task<void> { co_await one.wait(); }(event)), kUser);

  ledger::KeyLocks locks(loop_);
  const Loop::Timer unlocks = loop_.after(
      1s, [guard = std::make_shared<ledger::KeyLocks::Guard>(locks, 1)]() mutable { guard.reset(); });
  (void)locks.lock(1).await_ready();
  EXPECT_EQ(account_after([](ledger::KeyLocks& all) -> Task<void> { (void)co_await all.lock(1); }(locks)),
            kUser);

  auto ends = schema::socket_pair();
  ASSERT_TRUE(ends);
  Loop::Watch watch(loop_, ends.value().first.borrow());
  const Loop::Timer hangs_up = loop_.after(1s, [&ends] { ends.value().second.reset(); });
  EXPECT_EQ(account_after([](Loop::Watch& one) -> Task<void> { (void)co_await one.readable(); }(watch)),
            kUser);
}

TEST_F(MeterTest, WorkIsChargedToWhomItWasFor) {
  std::map<uid_t, Meter::Time> charged;
  Meter meter(harness_.time);
  meter.on_charge([&](uid_t account, Meter::Time cost) { charged[account] += cost; });
  work(2ms);  // Nobody's.
  {
    const Meter::Scope user(meter, kUser);
    work(4ms);
    {
      const Meter::Scope other(meter, kOther);
      work(1ms);
      const Meter::Scope nobody(meter, std::nullopt);
      work(3ms);
    }
    work(5ms);
  }
  EXPECT_EQ(charged.size(), 2U);
  EXPECT_EQ(charged[kUser], 9ms);
  EXPECT_EQ(charged[kOther], 1ms);
}

// One look at the clock for a request: what the loop takes to find the next one is the next one's, but never what it does
// for nobody.
TEST_F(MeterTest, WhatTheLoopDoesForNobodyIsNotTheNextOnesCost) {
  std::map<uid_t, Meter::Time> charged;
  loop_.meter().on_charge([&](uid_t account, Meter::Time cost) { charged[account] += cost; });
  const auto after_its_wait = [&](Meter::Time cost) -> Task<void> {
    co_await loop_.yield();
    work(cost);
  };
  const auto start = [&](uid_t user, Meter::Time cost) {
    const Meter::Scope scope(loop_.meter(), user);
    spawn(after_its_wait(cost));
  };
  start(kUser, 2ms);
  loop_.run_ready();
  EXPECT_EQ(charged[kUser], 2ms);

  loop_.post([&] { work(5ms); });
  start(kOther, 1ms);
  loop_.run_ready();
  EXPECT_EQ(charged[kOther], 1ms) << "work that was posted for nobody";

  const Loop::Timer timer = loop_.after(0ns, [&] { work(5ms); });
  loop_.run_ready();
  start(kOther, 1ms);
  loop_.run_ready();
  EXPECT_EQ(charged[kOther], 2ms) << "a timer's work";
  EXPECT_EQ(charged[kUser], 2ms);

  spawn(after_its_wait(5ms));
  start(kOther, 1ms);
  loop_.run_ready();
  EXPECT_EQ(charged[kOther], 3ms) << "a coroutine that is nobody's";
  loop_.meter().on_charge(nullptr);
}

TEST_F(MeterTest, WhatARequestCostsAfterItsWaitCountsForItsRation) {
  FairGate gate(loop_);
  const auto request = [&](uid_t uid) -> Task<int> {
    const FairGate::Turn turn = co_await gate.turn(uid, uid);
    co_await loop_.yield();
    work(3 * Ration::kBurst);
    co_return 0;
  };
  harness_.run(request(kOther));
  EXPECT_EQ(gate.rest(kOther), 0ns) << "alone";
  harness_.run(request(kUser));
  EXPECT_GT(gate.rest(kUser), 0ns);
}

}  // namespace
}  // namespace mapcap::broker
