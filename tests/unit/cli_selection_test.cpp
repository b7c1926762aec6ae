// Which rows a table shows.
#include "client/cli/selection.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mapcap::cli {
namespace {

using std::chrono::seconds;
using ::testing::ElementsAre;

RegionInfo region(const std::string& name, std::uint32_t owner, std::uint64_t size) {
  RegionInfo info;
  info.name = name;
  info.owner = owner;
  info.size = size;
  info.pool = owner == 1 ? "dram" : "nvm";
  info.held = size / 2;
  info.state = owner == 1 ? RegionState::live : RegionState::lost;
  return info;
}

std::vector<RegionInfo> some() {
  std::vector<RegionInfo> regions{region("b", 1, 8), region("c", 2, 64), region("a", 1, 16)};
  regions[0].created_unix = seconds(30);
  regions[1].created_unix = seconds(20);
  regions[2].created_unix = seconds(10);
  regions[1].remaining = seconds(1);
  return regions;
}

std::vector<std::string> names(const std::vector<RegionInfo>& regions) {
  std::vector<std::string> names;
  for (const RegionInfo& one : regions) names.push_back(one.name);
  return names;
}

std::vector<std::string> by(const std::string& word) {
  return names(select(some(), {}, *parse_region_order(word)));
}

TEST(Selection, EachOrderPutsFirstWhatOneLooksFor) {
  EXPECT_THAT(by("name"), ElementsAre("a", "b", "c"));
  EXPECT_THAT(by("owner"), ElementsAre("a", "b", "c"));
  EXPECT_THAT(by("size"), ElementsAre("c", "a", "b"));
  EXPECT_THAT(by("held"), ElementsAre("c", "a", "b"));
  EXPECT_THAT(by("created"), ElementsAre("b", "c", "a"));
  EXPECT_THAT(by("remaining"), ElementsAre("c", "a", "b"));
  EXPECT_THAT(by("state"), ElementsAre("a", "b", "c")) << "live before lost";
  EXPECT_THAT(by("pool"), ElementsAre("a", "b", "c")) << "dram before nvm";
  EXPECT_FALSE(parse_region_order("colour"));
}

TEST(Selection, EverythingThatIsGivenMustBeMet) {
  EXPECT_THAT(names(select(some(), {1, "", ""}, RegionOrder::name)), ElementsAre("a", "b"));
  EXPECT_THAT(names(select(some(), {{}, "nvm", ""}, RegionOrder::name)), ElementsAre("c"));
  EXPECT_THAT(names(select(some(), {{}, "", "lost"}, RegionOrder::name)), ElementsAre("c"));
  EXPECT_THAT(names(select(some(), {1, "nvm", ""}, RegionOrder::name)), ElementsAre());
  EXPECT_THAT(names(select(some(), {0, "", ""}, RegionOrder::name)), ElementsAre()) << "root is a user too";
}

QuotaInfo quota(SubjectKind subject, std::uint32_t id, std::uint64_t used, std::uint64_t most) {
  QuotaInfo info;
  info.slot = {subject, id, "dram"};
  info.bytes = used;
  info.limits.bytes = most;
  return info;
}

TEST(Selection, TheFullestLimitOfASlotCounts) {
  QuotaInfo slot = quota(SubjectKind::user, 1, 10, 100);
  slot.regions = 9;
  EXPECT_EQ(used_percent(slot), 10) << "no limit of regions";
  slot.limits.regions = 10;
  EXPECT_EQ(used_percent(slot), 90);
  slot.limits.grants = 0;
  EXPECT_EQ(used_percent(slot), 90) << "nothing of nothing";
  slot.grants = 1;
  EXPECT_EQ(used_percent(slot), 100) << "something of nothing";
}

TEST(Selection, QuotasByUserAndByWhatIsUsed) {
  const std::vector<QuotaInfo> all{quota(SubjectKind::user, 7, 80, 100),
                                   quota(SubjectKind::group, 7, 99, 100),
                                   quota(SubjectKind::user, 8, 81, 100)};
  EXPECT_EQ(select(all, QuotaFilter{7, 0}).size(), 1U) << "a group's number is no user's";
  EXPECT_EQ(select(all, QuotaFilter{{}, 80}).size(), 2U) << "over, not at";
  EXPECT_EQ(select(all, QuotaFilter{8, 80}).size(), 1U);
  EXPECT_EQ(select(all, QuotaFilter{}).size(), 3U);
}

}  // namespace
}  // namespace mapcap::cli
