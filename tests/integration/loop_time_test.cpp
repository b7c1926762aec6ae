// Promise 12: what holders, owners and strangers can make long is not done by the loop, whatever it looks
// like.
#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

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

TEST_F(LoopTimeTest, NoVerbAsksForBadBlocksOnTheLoop) {
  const Who owner;
  ASSERT_TRUE(create(owner, "a/one", kPersistent));
  ASSERT_TRUE(create(owner, "a/two", {LifetimeKind::ttl, 1h}));
  ASSERT_TRUE(renew(owner, "a/two", 2h));
  ASSERT_TRUE(open(owner, "a/one"));
  const auto listing = list(owner, {});
  ASSERT_TRUE(listing);
  ASSERT_EQ(listing.value().regions.size(), 2U);
  for (const schema::RegionInfo& region : listing.value().regions) EXPECT_EQ(region.bad_blocks, 3U);
  const auto shown = show(owner, "a/one");
  ASSERT_TRUE(shown);
  EXPECT_EQ(shown.value().region.bad_blocks, 3U);
  EXPECT_EQ(pool().count("bad_blocks").here, 0U);
  EXPECT_EQ(pool().count("bad_blocks").elsewhere, 5U);
  for (const char* name : {"a/one", "a/two"}) ASSERT_TRUE(revoke(owner, name));
}

// For the thread sanitizer: the memory of regions that are listed goes meanwhile.
TEST_F(LoopTimeTest, ListsAndRevokesGoOnSideBySide) {
  pool().be_slow();
  const Who owner;
  for (int round = 0; round < 20; ++round) {
    for (int i = 0; i < 5; ++i) {
      ASSERT_TRUE(create(owner, "a/" + std::to_string(i), kPersistent, 0666));
      ASSERT_TRUE(open(owner, "a/" + std::to_string(i)));
    }
    for (int i = 0; i < 5; ++i) {
      ASSERT_TRUE(revoke(owner, "a/" + std::to_string(i)));
      ASSERT_TRUE(list(owner, {}));
    }
  }
}

TEST_F(LoopTimeTest, ALongListLeavesOthersTheirTurns) {
  constexpr std::uint64_t kMany = 20'000;
  for (std::uint64_t i = 1; i <= kMany; ++i) {
    auto region = std::make_unique<broker::Region>(loop());
    region->record.id = {1'000'000 + i};
    region->record.name = "b/" + std::string(200, 'a') + std::to_string(i);
    region->record.state = RegionState::lost;
    directory().add(std::move(region));
  }
  std::size_t turns = 0;
  bool listed = false;
  struct Other {
    static broker::Task<void> of(broker::Loop& loop, std::size_t& count, const bool& over) {
      while (!over) {
        co_await loop.yield();
        ++count;
      }
    }
  };
  loop().post([&] { broker::spawn(Other::of(loop(), turns, listed)); });
  schema::List ask;
  while (ask.glob.size() < 254) ask.glob += "*a";
  ask.glob += "*b";
  const auto listing = list({}, ask);
  listed = true;
  ASSERT_TRUE(listing);
  EXPECT_TRUE(listing.value().regions.empty());
  // With 0.1 ms each that is less than a hundredth of what any processor takes for them.
  EXPECT_GE(turns, 5U);
  until([] { return true; });
  for (std::uint64_t i = 1; i <= kMany; ++i) directory().remove({1'000'000 + i});
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
