// Promise 12: what the machine's accounts are slow about, one user waits for and not the broker.
#include "broker/door/user_names.h"

#include <gmock/gmock.h>

#include <atomic>
#include <semaphore>

#include "tests/support/loop_harness.h"

namespace mapcap::broker {
namespace {

using namespace std::chrono_literals;

class UserNamesTest : public testing::Test {
 protected:
  /// Asks for a name and notes it down; does not wait.
  void ask(UserNames& names, uid_t uid) { spawn(note(names, uid)); }
  Task<void> note(UserNames& names, uid_t uid) {
    answers_.push_back(co_await names.of(uid));
    if (answers_.size() == awaited_) harness_.loop.stop();
  }
  void await(std::size_t answers) {
    awaited_ = answers;
    while (answers_.size() < answers) harness_.loop.run();
  }

  test::StillLoop harness_;
  std::vector<std::string> answers_;
  std::size_t awaited_ = 0;
  std::atomic<int> lookups_ = 0;
  UserNames::LookUp counted_ = [this](uid_t uid) {
    ++lookups_;
    return uid == 7 ? "" : "user-" + std::to_string(uid);
  };
};

TEST_F(UserNamesTest, ANameIsLookedUpOnceForAllWhoAskAtOnce) {
  UserNames names(harness_.loop, harness_.worker, counted_);
  for (int i = 0; i < 100; ++i) ask(names, 5);
  await(100);
  EXPECT_THAT(answers_, testing::Each("user-5"));
  EXPECT_EQ(lookups_, 1);
}

TEST_F(UserNamesTest, WhatIsKnownIsAnsweredAtOnceAndThatThereIsNoNameToo) {
  UserNames names(harness_.loop, harness_.worker, counted_);
  ask(names, 5);
  ask(names, 7);
  await(2);
  ask(names, 5);
  ask(names, 7);  // The loop does not run.
  EXPECT_THAT(answers_, testing::ElementsAre("user-5", "", "user-5", ""));
  EXPECT_EQ(lookups_, 2);
}

TEST_F(UserNamesTest, ANameIsNotBelievedForEver) {
  UserNames names(harness_.loop, harness_.worker, counted_);
  for (std::size_t i = 1; i <= 3; ++i) {
    ask(names, 5);
    await(2 * i - 1);
    harness_.time.pass(UserNames::kBelieved - 1ns);
    ask(names, 5);
    await(2 * i);
    EXPECT_EQ(lookups_, static_cast<int>(i)) << "it is believed until its time is over";
    harness_.time.pass(1ns);
  }
}

TEST_F(UserNamesTest, ALookupThatHangsHoldsUpItsOwnUserOnly) {
  Worker two(harness_.loop, 2);
  std::binary_semaphore go_on(0);
  UserNames names(harness_.loop, two, [&](uid_t uid) {
    if (uid == 13) go_on.acquire();
    return "user-" + std::to_string(uid);
  });
  ask(names, 13);
  ask(names, 13);
  ask(names, 5);
  await(1);
  EXPECT_THAT(answers_, testing::ElementsAre("user-5"));
  go_on.release();
  await(3);
  EXPECT_THAT(answers_, testing::ElementsAre("user-5", "user-13", "user-13"));
}

TEST_F(UserNamesTest, NoMoreThanItsMostAreKept) {
  UserNames names(harness_.loop, harness_.worker, counted_);
  for (uid_t uid = 100; uid <= 100 + UserNames::kMost; ++uid) {
    const std::size_t expected = answers_.size() + 1;
    ask(names, uid);
    await(expected);
  }
  const int before = lookups_;
  const std::size_t expected = answers_.size() + 1;
  ask(names, 100);
  await(expected);
  EXPECT_EQ(lookups_, before + 1) << "the first of so many is still known";
  EXPECT_EQ(answers_.back(), "user-100");
}

}  // namespace
}  // namespace mapcap::broker
