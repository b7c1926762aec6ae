#include "broker/turns/allowance.h"

#include <gtest/gtest.h>

namespace mapcap::broker {
namespace {

using namespace std::chrono_literals;

TEST(Allowance, IsSoManyAtOnceAndThenOneInAWhile) {
  Allowance allowance(3, 10s);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(allowance.take(1, 100s)) << i;
  EXPECT_FALSE(allowance.take(1, 100s));
  EXPECT_EQ(allowance.wait(1, 100s), 10s);
  EXPECT_FALSE(allowance.take(1, 109s));
  EXPECT_EQ(allowance.wait(1, 109s), 1s);
  EXPECT_TRUE(allowance.take(1, 110s));
  EXPECT_FALSE(allowance.take(1, 110s)) << "what was refused costs nothing, and gives nothing";
  EXPECT_TRUE(allowance.take(1, 120s));
}

TEST(Allowance, IsWholeAgainAfterAllOfItWasGiven) {
  Allowance allowance(3, 10s);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(allowance.take(1, 0s));
  for (int i = 0; i < 3; ++i)
    EXPECT_TRUE(allowance.take(1, 1000s)) << "no more is saved up than there may be at once";
  EXPECT_FALSE(allowance.take(1, 1000s));
}

TEST(Allowance, IsEachPrincipalsOwnAndForgotten) {
  Allowance allowance(1, 10s);
  EXPECT_TRUE(allowance.take(1, 0s));
  EXPECT_TRUE(allowance.take(2, 0s));
  EXPECT_FALSE(allowance.take(1, 1s));
  EXPECT_TRUE(allowance.take(3, 20s));
  EXPECT_EQ(allowance.remembered(), 1U);
}

}  // namespace
}  // namespace mapcap::broker
