// What the keeper must hold, and what it was given of that.
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "broker/keeper/holdings.h"

namespace mapcap::broker::keeper {
namespace {

using Regions = std::vector<std::uint64_t>;

TEST(Holdings, EachIsGivenOnceInTheOrderThatItCame) {
  Holdings holdings;
  for (std::uint64_t region = 1; region <= 5; ++region) holdings.add(RegionId{region}, BorrowedFd(10));
  Holdings::Batch batch = holdings.next(3);
  EXPECT_EQ(batch.regions, (Regions{1, 2, 3}));
  EXPECT_EQ(batch.fds.size(), 3U);
  EXPECT_FALSE(holdings.held(RegionId{1})) << "it was not sent yet";
  holdings.sent(batch);
  EXPECT_TRUE(holdings.held(RegionId{3}));
  EXPECT_FALSE(holdings.held(RegionId{4}));
  batch = holdings.next(250);
  EXPECT_EQ(batch.regions, (Regions{4, 5}));
  holdings.sent(batch);
  EXPECT_TRUE(holdings.next(250).regions.empty());
  EXPECT_EQ(holdings.given(), 5U);
}

TEST(Holdings, WhatIsDroppedBeforeItsTurnIsNeverGiven) {
  Holdings holdings;
  for (std::uint64_t region = 1; region <= 4; ++region) holdings.add(RegionId{region}, BorrowedFd(10));
  EXPECT_FALSE(holdings.drop(RegionId{1})) << "nobody need be told";
  EXPECT_FALSE(holdings.drop(RegionId{3}));
  const Holdings::Batch batch = holdings.next(250);
  EXPECT_EQ(batch.regions, (Regions{2, 4}));
  holdings.sent(batch);
  EXPECT_TRUE(holdings.drop(RegionId{2})) << "the keeper has it";
  EXPECT_EQ(holdings.size(), 1U);
  EXPECT_EQ(holdings.given(), 1U);
}

TEST(Holdings, ANewKeeperIsGivenEverythingAgain) {
  Holdings holdings;
  for (std::uint64_t region = 1; region <= 3; ++region) holdings.add(RegionId{region}, BorrowedFd(10));
  holdings.sent(holdings.next(250));
  holdings.drop(RegionId{2});
  holdings.begin_anew();
  EXPECT_EQ(holdings.given(), 0U);
  EXPECT_FALSE(holdings.held(RegionId{1}));
  Regions again = holdings.next(250).regions;
  std::sort(again.begin(), again.end());
  EXPECT_EQ(again, (Regions{1, 3}));
}

TEST(Holdings, WhatAnEarlierBrokerGaveIsNotGivenAgainUntilThatKeeperEnds) {
  Holdings holdings;
  holdings.adopt(RegionId{7});
  holdings.adopt(RegionId{8});
  holdings.add(RegionId{7}, BorrowedFd(10));
  EXPECT_TRUE(holdings.held(RegionId{7}));
  EXPECT_TRUE(holdings.next(250).regions.empty());
  holdings.begin_anew();
  EXPECT_EQ(holdings.next(250).regions, Regions{7}) << "of 8 nobody here has a descriptor";
  EXPECT_EQ(holdings.size(), 1U);
}

TEST(Holdings, RegionsBlanksAndSocketsAreCountedApart) {
  Holdings holdings;
  holdings.adopt(RegionId{3});
  holdings.add(RegionId{1}, BorrowedFd(10));
  holdings.add_blank(RegionId{2}, BorrowedFd(10));
  holdings.add_socket(RegionId{3}, BorrowedFd(10));
  holdings.add_socket(RegionId{4}, BorrowedFd(10));
  EXPECT_EQ(holdings.of_regions().all, 1U);
  EXPECT_EQ(holdings.of_regions().given, 0U);
  EXPECT_EQ(holdings.of_sockets().given, 1U) << "an earlier broker gave it";
  EXPECT_EQ(holdings.unheld(9), std::vector<RegionId>{RegionId{1}});
  holdings.sent(holdings.next(250));
  EXPECT_EQ(holdings.of_regions().given, 1U);
  EXPECT_EQ(holdings.of_sockets().given, 2U);
  EXPECT_EQ(holdings.given(), 4U);
  holdings.add(RegionId{2}, BorrowedFd(10));
  EXPECT_EQ(holdings.of_regions().given, 2U) << "what was a blank";
  holdings.drop(RegionId{3});
  holdings.begin_anew();
  EXPECT_EQ(holdings.of_regions().all, 2U);
  EXPECT_EQ(holdings.of_sockets().all, 1U);
  EXPECT_EQ(holdings.given(), 0U);
}

}  // namespace
}  // namespace mapcap::broker::keeper
