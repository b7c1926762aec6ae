// Promise 12: what holders, owners and strangers can make long is not done by the loop, whatever it looks
// like.
#include <gtest/gtest.h>

#include "tests/support/regions_harness.h"

namespace mapcap::test {
namespace {

using namespace std::chrono_literals;

constexpr Lifetime kPersistent{LifetimeKind::persistent, 0ns};

class LoopTimeTest : public RegionsTest {};

TEST_F(LoopTimeTest, WhatSomebodyMayHaveMappedIsNeitherCutNorFreedByTheLoop) {
  const Who owner;
  ASSERT_TRUE(create(owner, "a/small", kPersistent, 0666));
  ASSERT_TRUE(open({2000, 2, {}}, "a/small"));
  ASSERT_TRUE(revoke(owner, "a/small"));
  ASSERT_TRUE(until([this] { return directory().size() == 0; }));
  EXPECT_EQ(pool().count("cut").here, 0U);
  EXPECT_EQ(pool().count("cut").elsewhere, 1U);
  EXPECT_EQ(pool().count("free").here, 0U);
  EXPECT_EQ(pool().count("free").elsewhere, 1U);
}

TEST_F(LoopTimeTest, WhoHasADeviceIsNotAskedByTheLoop) {
  pool().be_slow();
  const Who owner;
  ASSERT_TRUE(create(owner, "a/device", kPersistent, 0666));
  ASSERT_TRUE(open({2000, 2, {}}, "a/device"));
  ASSERT_TRUE(revoke(owner, "a/device"));
  ASSERT_TRUE(until([this] { return directory().size() == 0; }));
  EXPECT_EQ(pool().count("held").here, 0U);
  EXPECT_GT(pool().count("held").elsewhere, 0U);
}

TEST_F(LoopTimeTest, ACreateThatIsUndoneFreesWhatItPopulatedOffTheLoop) {
  pool().be_slow();
  keeper().refuses = true;
  ASSERT_FALSE(create({}, "a/populated", kPersistent));
  ASSERT_TRUE(until([this] {
    return pool().count("discard").elsewhere == 1 && quotas().pool_used("dram") == 0;
  })) << "not undone, or charged for ever";
  EXPECT_EQ(pool().count("discard").here, 0U);
}

}  // namespace
}  // namespace mapcap::test
