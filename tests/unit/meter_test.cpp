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

namespace mapcap::broker {
namespace {

using namespace std::chrono_literals;

constexpr uid_t kUser = 5;
constexpr uid_t kOther = 6;

void work(Meter::Time cost) {
  const Meter::Time end = Meter::worked() + cost;
  while (Meter::worked() < end) {
  }
}

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
    while (!ended) loop_.run();
    EXPECT_EQ(loop_.meter().account(), Meter::Account()) << "work after a wait was not ended";
    return found;
  }

  test::LoopHarness harness_;
  Loop& loop_ = harness_.loop;

 private:
  Task<void> observe(Task<void> wait, Meter::Account& found, bool& ended) {
    co_await std::move(wait);
    found = loop_.meter().account();
    ended = true;
    loop_.stop();
  }
  static Task<void> come_back(Loop& loop) {
    for (int i = 0; i < 5; ++i) co_await loop.yield();
  }
};

TEST_F(MeterTest, WhoeverWaitsGoesOnOnItsOwnAccount) {
  EXPECT_EQ(account_after([](Loop& loop) -> Task<void> { co_await loop.sleep(1ms); }(loop_)), kUser);
  EXPECT_EQ(account_after([](Loop& loop) -> Task<void> { co_await loop.yield(); }(loop_)), kUser);
  EXPECT_EQ(account_after([](Worker& worker) -> Task<void> {
              (void)co_await worker.run([] { return 1; });
            }(harness_.worker)),
            kUser);

  Event event(loop_);
  const Loop::Timer soon = loop_.after(1ms, [&event] { event.notify(); });
  EXPECT_EQ(account_after([](Event& one) -> Task<void> { co_await one.wait(); }(event)), kUser);

  ledger::KeyLocks locks(loop_);
  const Loop::Timer unlocks = loop_.after(
      1ms, [guard = std::make_shared<ledger::KeyLocks::Guard>(locks, 1)]() mutable { guard.reset(); });
  (void)locks.lock(1).await_ready();
  EXPECT_EQ(account_after([](ledger::KeyLocks& all) -> Task<void> { (void)co_await all.lock(1); }(locks)),
            kUser);

  auto ends = schema::socket_pair();
  ASSERT_TRUE(ends);
  Loop::Watch watch(loop_, ends.value().first.borrow());
  const Loop::Timer hangs_up = loop_.after(1ms, [&ends] { ends.value().second.reset(); });
  EXPECT_EQ(account_after([](Loop::Watch& one) -> Task<void> { (void)co_await one.readable(); }(watch)),
            kUser);
}

TEST_F(MeterTest, WorkIsChargedToWhomItWasFor) {
  std::map<uid_t, Meter::Time> charged;
  Meter meter;
  meter.on_charge([&](uid_t account, Meter::Time cost) { charged[account] += cost; });
  const Meter::Time begin = Meter::worked();
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
  const Meter::Time all = Meter::worked() - begin;
  EXPECT_EQ(charged.size(), 2U);
  EXPECT_GE(charged[kUser], 9ms);
  EXPECT_GE(charged[kOther], 1ms);
  EXPECT_LE(charged[kUser] + charged[kOther], all - 5ms);
}

TEST_F(MeterTest, WhatARequestCostsAfterItsWaitCountsForItsRation) {
  FairGate gate(loop_);
  struct Request {
    static Task<int> of(FairGate& gate, Loop& loop, uid_t uid) {
      const FairGate::Turn turn = co_await gate.turn(uid);
      co_await loop.yield();
      work(2 * Ration::kBurst);
      co_return 0;
    }
  };
  harness_.run(Request::of(gate, loop_, kOther));
  EXPECT_EQ(gate.rest(kOther), 0ns) << "alone";
  harness_.run(Request::of(gate, loop_, kUser));
  EXPECT_GT(gate.rest(kUser), 0ns);
}

}  // namespace
}  // namespace mapcap::broker
