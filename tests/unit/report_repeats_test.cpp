// Promise 12: a hundred refusals of one user are not a hundred lines of the log.
#include "broker/report/repeats.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <string>
#include <utility>

#include "broker/report/report.h"

namespace mapcap::broker {
namespace {

using namespace std::chrono_literals;
constexpr Repeats::Time kNow = 1h;

TEST(Repeats, WhatComesAgainIsCountedAndToldOnceWhenItIsOver) {
  Repeats repeats;
  EXPECT_TRUE(repeats.first("a", kNow));
  for (int i = 0; i < 99; ++i) EXPECT_FALSE(repeats.first("a", kNow + i * 1ms));
  EXPECT_TRUE(repeats.first("b", kNow + 1s));
  EXPECT_EQ(repeats.next(), kNow + Repeats::kCounted);
  EXPECT_TRUE(repeats.over(kNow + Repeats::kCounted - 1ns).empty());
  const auto over = repeats.over(kNow + Repeats::kCounted);
  ASSERT_EQ(over.size(), 1U);
  EXPECT_EQ(over.front().key, "a");
  EXPECT_EQ(over.front().times, 99U);
  EXPECT_TRUE(repeats.first("a", kNow + Repeats::kCounted)) << "new again";
  EXPECT_TRUE(repeats.over(kNow + 1s + Repeats::kCounted).empty()) << "what came once is not told twice";
}

TEST(Repeats, ManyDifferentThingsTakeBoundedMemory) {
  Repeats repeats;
  for (int i = 0; i < 10'000; ++i) EXPECT_TRUE(repeats.first(std::to_string(i), kNow));
  std::size_t again = 0;
  for (int i = 0; i < 10'000; ++i) again += repeats.first(std::to_string(i), kNow) ? 0 : 1;
  EXPECT_EQ(again, Repeats::kMost);
}

TEST(Repeats, TheLogHasOneLineOfAHundredRefusalsAndTheirCount) {
  LogReport report;
  std::function<void()> later;
  std::chrono::nanoseconds delay{0};
  report.use_time([] { return kNow; },
                  [&](std::chrono::nanoseconds time, std::function<void()> work) {
                    delay = time;
                    later = std::move(work);
                  });
  const Failure error = failure(ErrorCode::over_quota, "he has enough");
  testing::internal::CaptureStderr();
  for (int i = 0; i < 100; ++i) report.connection_refused(5, error);
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_EQ(std::count(log.begin(), log.end(), '\n'), 1) << log;
  ASSERT_TRUE(later);
  EXPECT_EQ(delay, Repeats::kCounted);
}

}  // namespace
}  // namespace mapcap::broker
