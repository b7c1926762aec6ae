// Promise 12: who keeps the loop busy leaves the rest of its time to the others.
#include <gtest/gtest.h>

#include "broker/turns/ration.h"

namespace mapcap::broker {
namespace {

using namespace std::chrono_literals;
using Time = Ration::Time;

constexpr uid_t kFlooder = 7;
constexpr uid_t kOther = 8;
constexpr Time kNow = 1h;
constexpr Time kRequest = 50us;  // Any that divides the burst.

/// Requests without a pause but for rests, from kNow on, for `span`; returns what they cost the loop.
Time flood(Ration& ration, Time span) {
  Time now = kNow;
  Time cost{};
  while (now < kNow + span) {
    if (const Time rest = ration.rest(kFlooder, now); rest > 0ns) {
      now += rest;
      continue;
    }
    now += kRequest;
    cost += kRequest;
    ration.charge(kFlooder, kRequest, now);
  }
  return cost;
}

TEST(Ration, WhoIsAloneNeverRests) {
  Ration ration;
  EXPECT_EQ(flood(ration, 1s), 1s);
}

TEST(Ration, AFlooderGetsItsShareWhileOthersAreServedAndKeepsIt) {
  Ration ration;
  ration.charge(kOther, kRequest, kNow);
  const Time cost = flood(ration, 1s);
  EXPECT_LE(cost, Time(1s) / Ration::kShares + Ration::kBurst + kRequest);
  EXPECT_GE(cost, Time(1s) / Ration::kShares - Ration::kBurst);
}

TEST(Ration, WhatComesInOneGoIsNoMoreThanTheBurst) {
  Ration ration;
  ration.charge(kOther, kRequest, kNow);
  Time now = kNow;
  int served = 0;
  for (; ration.rest(kFlooder, now) == 0ns; ++served) ration.charge(kFlooder, kRequest, now += kRequest);
  // While it works its share grows too: with 1/2 of the loop, twice the burst.
  EXPECT_EQ(served, Ration::kBurst / kRequest * Ration::kShares / (Ration::kShares - 1) + 1);
}

TEST(Ration, ALightUserNeverRestsBesideAFlooder) {
  Ration ration;
  for (Time now = kNow; now < kNow + 1s; now += 4 * kRequest) {
    ration.charge(kFlooder, 3 * kRequest, now);
    ration.charge(kOther, kRequest / 4, now);
    ASSERT_EQ(ration.rest(kOther, now), 0ns);
  }
  EXPECT_GT(ration.rest(kFlooder, kNow + 1s), 0ns);
}

TEST(Ration, DebtsArePaidInFullAndThenOver) {
  Ration ration;
  ration.charge(kOther, kRequest, kNow);
  ration.charge(kFlooder, 10s, kNow);
  const Time rest = ration.rest(kFlooder, kNow);
  EXPECT_GE(rest, 10s * (Ration::kShares - 1) - Ration::kBurst * Ration::kShares);
  EXPECT_LE(rest, 10s * (Ration::kShares - 1));
  EXPECT_GT(ration.rest(kFlooder, kNow + rest - 1ns), 0ns);
  EXPECT_EQ(ration.rest(kFlooder, kNow + rest), 0ns);
  // And with it the next requests are free.
  ration.charge(kFlooder, kRequest, kNow + rest);
  EXPECT_EQ(ration.rest(kFlooder, kNow + rest), 0ns);
}

TEST(Ration, AFloodersPiecesAreHalfAsLongAsItsFirst) {
  Ration ration;
  ration.charge(kOther, kRequest, kNow);
  Time now = kNow;
  const auto piece = [&] {
    int served = 0;
    for (; ration.rest(kFlooder, now) == 0ns; ++served) ration.charge(kFlooder, kRequest, now += kRequest);
    return served;
  };
  const int first = piece();
  for (int i = 0; i < 10; ++i) {
    now += ration.rest(kFlooder, now);
    EXPECT_LE(piece(), first / 2 + 1);
  }
}

TEST(Ration, WhatOneTookAloneIsOwedToNobodyWhoComesLater) {
  Ration ration;
  ration.charge(kFlooder, 10s, kNow);
  ration.charge(kOther, kRequest, kNow);
  EXPECT_LE(ration.rest(kFlooder, kNow), Ration::kBurst * Ration::kShares);
}

TEST(Ration, CompanyIsForgottenAfterAMinute) {
  Ration ration;
  ration.charge(kOther, kRequest, kNow);
  ration.charge(kFlooder, 1s, kNow + Ration::kCompany - 1ns);
  EXPECT_GT(ration.rest(kFlooder, kNow + Ration::kCompany - 1ns), 0ns);
  EXPECT_EQ(ration.rest(kFlooder, kNow + Ration::kCompany), 0ns);
}

TEST(Ration, ManyUidsDoNotGrowItsMemory) {
  Ration ration;
  for (uid_t uid = 0; uid < 20'000; ++uid) ration.charge(uid, kRequest, kNow + uid * kRequest);
  EXPECT_LE(ration.users(), 4096U);
}

}  // namespace
}  // namespace mapcap::broker
