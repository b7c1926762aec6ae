// What is made ahead: how much of it, and the labels that it gets later.
#include <gtest/gtest.h>

#include <chrono>
#include <deque>
#include <string>

#include "broker/keeper/holdings.h"
#include "broker/keeper/label_board.h"
#include "broker/keeper/stock.h"

namespace mapcap::broker::keeper {
namespace {

using namespace std::chrono_literals;
using Things = Stock<int>;
constexpr std::size_t kMost = 64;

/// Makes what the stock wants.
void refill(Things& stock) {
  const std::size_t missing = stock.missing(kMost);
  stock.ordered(missing);
  for (std::size_t i = 0; i < missing; ++i) stock.arrived(static_cast<int>(i));
}

TEST(Stock, OneWhoAsksOnceIsNoReasonToWorkAhead) {
  Things stock;
  EXPECT_FALSE(stock.take(1h));
  EXPECT_EQ(stock.missing(kMost), 0U);
  EXPECT_FALSE(stock.take(2h));
  EXPECT_EQ(stock.missing(kMost), 0U) << "the one before was long ago";
}

TEST(Stock, GrowsWithThoseWhoFindNoneUpToItsBound) {
  Things stock;
  (void)stock.take(1h);
  (void)stock.take(1h + 1s);
  EXPECT_EQ(stock.missing(kMost), Things::kFirst);
  (void)stock.take(1h + 2s);
  EXPECT_EQ(stock.missing(kMost), 2 * Things::kFirst);
  for (int i = 0; i < 100; ++i) (void)stock.take(1h + 3s);
  EXPECT_EQ(stock.missing(kMost), kMost);
  EXPECT_EQ(stock.missing(5), 5U) << "no more than there is room for";
  EXPECT_EQ(stock.missing(0), 0U);
}

TEST(Stock, IsRefilledByHalvesAndNeverTwice) {
  Things stock;
  for (int i = 0; i < 3; ++i) (void)stock.take(1h);
  EXPECT_EQ(stock.missing(kMost), 8U);
  stock.ordered(8);
  EXPECT_EQ(stock.missing(kMost), 0U) << "they are on their way";
  for (int i = 0; i < 8; ++i) stock.arrived(i);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(stock.take(1h), i) << "the oldest first";
    EXPECT_EQ(stock.missing(kMost), 0U);
  }
  (void)stock.take(1h);
  EXPECT_EQ(stock.missing(kMost), 4U);
}

TEST(Stock, GrowsWithWhatIsTakenInASecond) {
  Things stock;
  (void)stock.take(1h);
  (void)stock.take(1h);
  for (int i = 0; i < 5; ++i) {
    refill(stock);
    EXPECT_TRUE(stock.take(1h + std::chrono::seconds(2 * i)));
  }
  while (stock.ready() > 0) (void)stock.take(1h + 20s - 1ns);
  EXPECT_EQ(stock.missing(kMost), Things::kFirst) << "one every other second needs no more";
  for (int i = 0; i < 5; ++i) {
    refill(stock);
    EXPECT_TRUE(stock.take(2h));
  }
  while (stock.ready() > 0) (void)stock.take(2h + 2s);
  EXPECT_EQ(stock.missing(kMost), 2 * Things::kFirst);
}

TEST(Stock, IsGoneWhenIdle) {
  Things stock;
  for (int i = 0; i < 3; ++i) (void)stock.take(1h);
  refill(stock);
  EXPECT_FALSE(stock.idle(1h + Things::kIdle - 1ns));
  EXPECT_TRUE(stock.idle(1h + Things::kIdle));
  EXPECT_EQ(stock.clear().size(), 8U);
  EXPECT_EQ(stock.ready(), 0U);
  EXPECT_EQ(stock.missing(kMost), 0U);
}

TEST(Stock, WhatCannotBeMadeIsNotAskedForAtOnce) {
  Things stock;
  for (int i = 0; i < 3; ++i) (void)stock.take(1h);
  stock.ordered(8);
  for (int i = 0; i < 8; ++i) stock.failed();
  EXPECT_EQ(stock.on_their_way(), 0U);
  EXPECT_EQ(stock.missing(kMost), 0U);
  (void)stock.take(1h + 1s);
  EXPECT_EQ(stock.missing(kMost), Things::kFirst) << "who asks next makes it try again";
}

class LabelBoardTest : public testing::Test {
 protected:
  LabelBoardTest() : board_(std::move(LabelBoard::create().value())) {}
  static Naming naming(const std::string& name) {
    confine::Label label;
    label.name = name;
    return {{8192}, {1000, 100}, encode_label(label).value()};
  }
  LabelBoard board_;
};

TEST_F(LabelBoardTest, TheKeeperReadsEachLabelOnceAndOnlyItsOwnGrants) {
  const auto place = board_.reserve(77);
  ASSERT_TRUE(place);
  EXPECT_FALSE(board_.take(*place, 77)) << "it has none yet";
  board_.write(*place, naming("bob/x"));
  EXPECT_FALSE(board_.take(*place, 78)) << "another grant's";
  const auto taken = board_.take(*place, 77);
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->size.value, 8192U);
  EXPECT_EQ(taken->holder.uid, 1000U);
  EXPECT_EQ(taken->label, naming("bob/x").label);
  EXPECT_FALSE(board_.take(*place, 77)) << "it has been read";
  EXPECT_FALSE(board_.take(LabelBoard::kPlaces, 77)) << "no such place";
}

TEST_F(LabelBoardTest, APlaceIsFreeOnceItsLabelWasReadAndNotBefore) {
  for (std::uint32_t i = 0; i < LabelBoard::kPlaces; ++i) ASSERT_TRUE(board_.reserve(100 + i)) << i;
  EXPECT_FALSE(board_.reserve(1)) << "all are in use";
  board_.write(3, naming("bob/x"));
  EXPECT_FALSE(board_.reserve(1)) << "the keeper has not read it";
  ASSERT_TRUE(board_.take(3, 103));
  EXPECT_EQ(board_.reserve(1), 3U);
  EXPECT_FALSE(board_.take(3, 103)) << "the place is another grant's";
  board_.give_back(9);
  EXPECT_EQ(board_.reserve(2), 9U);
}

TEST(BlankHoldings, CountAsNoRegionUntilTheyAreOne) {
  Holdings holdings;
  holdings.add(RegionId{1}, BorrowedFd(10));
  holdings.add_blank(RegionId{2}, BorrowedFd(11));
  holdings.add_blank(RegionId{3}, BorrowedFd(12));
  EXPECT_EQ(holdings.of_regions().all, 1U);
  EXPECT_EQ(holdings.unheld(9), (std::vector<RegionId>{RegionId{1}})) << "nobody loses a blank";
  holdings.sent(holdings.next(250));
  EXPECT_TRUE(holdings.held(RegionId{2}));
  EXPECT_EQ(holdings.of_regions().given, 1U);
  holdings.add(RegionId{2}, BorrowedFd(11));
  EXPECT_EQ(holdings.of_regions().all, 2U);
  EXPECT_EQ(holdings.of_regions().given, 2U) << "the keeper had it already";
  EXPECT_TRUE(holdings.drop(RegionId{3}));
  EXPECT_EQ(holdings.of_regions().all, 2U);
  holdings.begin_anew();
  EXPECT_EQ(holdings.of_regions().given, 0U);
  EXPECT_EQ(holdings.of_regions().all, 2U);
}

}  // namespace
}  // namespace mapcap::broker::keeper
