// Opens made ahead: of which regions, how many, and what becomes of those that are no longer wanted.
#include <gtest/gtest.h>

#include <chrono>
#include <vector>

#include "broker/keeper/ready_opens.h"

namespace mapcap::broker::keeper {
namespace {

using namespace std::chrono_literals;
constexpr RegionId kOne{1};
constexpr RegionId kOther{2};
constexpr std::size_t kMost = 64;

class ReadyOpensTest : public testing::Test {
 protected:
  /// Asks until so many are wanted, as of a region that is opened again and again.
  void ask(RegionId region, int times, ReadyOpens::Time now = 1h) {
    for (int i = 0; i < times; ++i) (void)opens_.take(region, now);
  }
  /// Makes what is wanted.
  ReadyOpens::Batch make(RegionId region) {
    const std::size_t count = opens_.missing(region, kMost);
    const ReadyOpens::Batch batch = opens_.ordered(region, count);
    for (std::size_t i = 0; i < count; ++i) opens_.arrived(batch, {++last_, 0, {}});
    return batch;
  }

  ReadyOpens opens_;
  confine::GrantId last_ = 0;
};

TEST_F(ReadyOpensTest, WhoOpensOnceIsNoReasonToWorkAhead) {
  ask(kOne, 1);
  EXPECT_EQ(opens_.missing(kOne, kMost), 0U);
  ask(kOther, 1);
  EXPECT_EQ(opens_.missing(kOther, kMost), 0U) << "another region";
  ask(kOne, 1, 1h + ReadyOpens::Stocked::kIdle);
  EXPECT_EQ(opens_.missing(kOne, kMost), 0U) << "the one before was long ago";
  ask(kOne, 1, 1h + ReadyOpens::Stocked::kIdle + 1s);
  EXPECT_EQ(opens_.missing(kOne, kMost), ReadyOpens::Stocked::kFirst);
}

TEST_F(ReadyOpensTest, EachIsGivenOnceAndToItsOwnRegionOnly) {
  ask(kOne, 2);
  make(kOne);
  EXPECT_EQ(opens_.ready(), 4U);
  EXPECT_FALSE(opens_.take(kOther, 1h));
  for (confine::GrantId grant = 1; grant <= 4; ++grant) {
    const auto taken = opens_.take(kOne, 1h);
    ASSERT_TRUE(taken);
    EXPECT_EQ(taken->grant, grant) << "the oldest first";
  }
  EXPECT_FALSE(opens_.take(kOne, 1h));
  EXPECT_EQ(opens_.all(), 0U);
}

TEST_F(ReadyOpensTest, OneInDemandLeavesSomethingToOthersAndAllTogetherAreBounded) {
  ask(kOne, 20);
  EXPECT_EQ(opens_.missing(kOne, kMost), ReadyOpens::kMostOfOne);
  make(kOne);
  EXPECT_EQ(opens_.all(), ReadyOpens::kMostOfOne);
  ask(kOther, 20);
  EXPECT_EQ(opens_.missing(kOther, ReadyOpens::kMostOfOne + 5), 5U);
  EXPECT_EQ(opens_.missing(kOther, 3), 0U) << "less than there are";
  const ReadyOpens::Batch batch = opens_.ordered(kOther, 5);
  EXPECT_EQ(opens_.missing(kOne, ReadyOpens::kMostOfOne + 5), 0U) << "those on their way count";
  for (int i = 0; i < 5; ++i) opens_.failed(batch);
  EXPECT_EQ(opens_.all(), ReadyOpens::kMostOfOne);
  EXPECT_EQ(opens_.missing(kOther, kMost), 0U) << "what cannot be made is not asked for at once";
}

TEST_F(ReadyOpensTest, ThoseThatCameFirstLeaveOthersTheirShare) {
  for (const RegionId first : {kOne, kOther}) {
    ask(first, 20);
    make(first);
  }
  EXPECT_EQ(opens_.all(), kMost);
  for (std::uint64_t region = 3; region <= 9; ++region) {
    ask(RegionId{region}, 20);
    EXPECT_EQ(opens_.missing(RegionId{region}, kMost), 0U) << "there is no room for more";
  }
  for (int i = 0; i < 20; ++i) (void)opens_.take(kOne, 1h);
  EXPECT_EQ(opens_.missing(kOne, kMost), 0U) << "it has more than a ninth";
  EXPECT_EQ(opens_.missing(RegionId{3}, kMost), kMost / 9);
  make(RegionId{3});
  for (std::uint64_t region = 10; region <= 100; ++region) ask(RegionId{region}, 2);
  EXPECT_EQ(opens_.missing(RegionId{4}, kMost), ReadyOpens::Stocked::kFirst)
      << "fewer are not worth the trouble";
}

TEST_F(ReadyOpensTest, ThoseOfADroppedRegionAreNeitherMadeNorTaken) {
  ask(kOne, 3);
  make(kOne);
  for (int i = 0; i < 5; ++i) (void)opens_.take(kOne, 1h);
  const ReadyOpens::Batch under_way = opens_.ordered(kOne, opens_.missing(kOne, kMost));
  EXPECT_TRUE(opens_.asked_for(under_way, 1h));
  EXPECT_EQ(opens_.drop(kOne).size(), 3U);
  EXPECT_FALSE(under_way.wanted->load()) << "the thread goes on making them";
  EXPECT_FALSE(opens_.asked_for(under_way, 1h));
  EXPECT_EQ(opens_.missing(kOne, kMost), 0U) << "it is as if it had never been opened";
  // Also when it is asked for again before those arrive that were made of what it was.
  ask(kOne, 2);
  opens_.arrived(under_way, {99, 0, {}});
  EXPECT_EQ(opens_.ready(), 0U);
  EXPECT_FALSE(opens_.take(kOne, 1h));
  opens_.failed(under_way);
  opens_.failed(under_way);
  opens_.failed(under_way);
  EXPECT_EQ(opens_.drop(kOther).size(), 0U);
  EXPECT_GT(opens_.missing(kOne, kMost), 0U) << "what failed was the old one's";
}

TEST_F(ReadyOpensTest, AreGoneWhenIdle) {
  ask(kOne, 2);
  ask(kOther, 2, 1h + 1s);
  make(kOne);
  make(kOther);
  EXPECT_EQ(opens_.drop_idle(1h + ReadyOpens::Stocked::kIdle).size(), 4U);
  EXPECT_EQ(opens_.ready(), 4U);
  EXPECT_TRUE(opens_.take(kOther, 1h + 2s));
  EXPECT_EQ(opens_.drop_all().size(), 3U);
  EXPECT_TRUE(opens_.empty());
  EXPECT_EQ(opens_.all(), 0U);
}

TEST_F(ReadyOpensTest, SoManyRegionsAreRememberedAndNoMore) {
  for (std::uint64_t region = 1; region <= ReadyOpens::kMostRegions; ++region) ask(RegionId{region}, 1);
  ask(RegionId{ReadyOpens::kMostRegions + 1}, 5);
  EXPECT_EQ(opens_.missing(RegionId{ReadyOpens::kMostRegions + 1}, kMost), 0U);
  ask(kOne, 1);
  EXPECT_GT(opens_.missing(kOne, kMost), 0U);
}

}  // namespace
}  // namespace mapcap::broker::keeper
