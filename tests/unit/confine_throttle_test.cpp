// Promise 12: what one uid asks too much, it waits for.
#include <gtest/gtest.h>

#include "broker/keeper/fuse/throttle.h"

namespace mapcap::broker::keeper {
namespace {

using Time = Throttle::Time;
constexpr Time kToken = std::chrono::nanoseconds(1'000'000'000 / Throttle::kRate);
constexpr Time kNow = std::chrono::hours(1);

TEST(Throttle, BurstIsFreeAndTheNextRequestWaitsForItsToken) {
  Throttle throttle;
  for (int i = 0; i < Throttle::kBurst; ++i) ASSERT_EQ(throttle.charge(7, kNow), Time::zero()) << i;
  EXPECT_EQ(throttle.charge(7, kNow), kToken);
  EXPECT_EQ(throttle.charge(7, kNow), 2 * kToken);
}

TEST(Throttle, OneUidsDebtIsNotAnothers) {
  Throttle throttle;
  for (int i = 0; i < 2 * Throttle::kBurst; ++i) throttle.charge(7, kNow);
  EXPECT_GT(throttle.charge(7, kNow), Time::zero());
  EXPECT_EQ(throttle.charge(8, kNow), Time::zero());
}

TEST(Throttle, RequestsAtTheRateAreNeverHeld) {
  Throttle throttle;
  for (int i = 0; i < 3 * Throttle::kBurst; ++i)
    ASSERT_EQ(throttle.charge(7, kNow + i * kToken), Time::zero());
}

TEST(Throttle, NoAnswerIsHeldLongerThanTheLongest) {
  Throttle throttle;
  for (int i = 0; i < 10 * Throttle::kBurst; ++i) ASSERT_LE(throttle.charge(7, kNow), Throttle::kLongest);
  EXPECT_EQ(throttle.charge(7, kNow), Throttle::kLongest);
  // Debt is bounded with it: who stops is free again after the longest wait and a token's time.
  EXPECT_EQ(throttle.charge(7, kNow + Throttle::kLongest + kToken), Time::zero());
}

TEST(Throttle, ManyUidsTakeBoundedMemory) {
  Throttle throttle;
  for (std::uint32_t uid = 0; uid < 100'000; ++uid) throttle.charge(uid, kNow);
  EXPECT_LE(throttle.uids(), 4096U);
}

}  // namespace
}  // namespace mapcap::broker::keeper
