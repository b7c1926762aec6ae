// What differs between two policies: entry by entry, and by who gains and who loses what.
#include "policy/changes.h"

#include <gmock/gmock.h>

#include "policy/diff.h"
#include "tests/unit/policy_test_support.h"

namespace mapcap::policy {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using namespace std::chrono_literals;

std::vector<PolicyChange> changes(const std::string& before, const std::string& after) {
  return changes_between(*load_with_pool(before), *load_with_pool(after));
}

TEST(Changes, OfRulesAreThoseThatSayAnotherThingWhereverTheyStand) {
  const std::string one = "[[rule]]\nuser=\"alice\"\nnames=[\"a/**\"]\n";
  const std::string two = "[[rule]]\nany=true\nverbs=[\"pools\"]\n";
  EXPECT_THAT(changes(one + two, "\n\n" + two + one), IsEmpty());
  EXPECT_THAT(changes(one, one + one + two),
              ElementsAre(PolicyChange{"rule added", "user alice", "p.toml:4", "allow names = a/**"},
                          PolicyChange{"rule added", "any user", "p.toml:10", "allow verbs = pools"}));
  EXPECT_THAT(changes(one + two, two),
              ElementsAre(PolicyChange{"rule removed", "user alice", "p.toml:4", "allow names = a/**"}));
}

TEST(Changes, OfARuleThatSaysPublishedAreToldToo) {
  const std::string rule = "[[rule]]\nuser=\"alice\"\nverbs=[\"open\"]\nrights=[\"ro\"]\n";
  EXPECT_THAT(
      changes(rule, rule + "published=\"required\"\n"),
      ElementsAre(PolicyChange{"rule removed", "user alice", "p.toml:4", "allow verbs = open; rights = ro"},
                  PolicyChange{"rule added", "user alice", "p.toml:4",
                               "allow verbs = open; rights = ro; published = required"}));
}

TEST(Changes, OfQuotasSayWhatItWas) {
  EXPECT_THAT(
      changes("[[quota]]\ngroup=\"staff\"\nbytes=\"1G\"\n[[quota]]\nany=true\nregions=1\n",
              "[[quota]]\ngroup=\"staff\"\nbytes=\"2G\"\n[[quota]]\nuser=\"bob\"\nregions=1\n"),
      ElementsAre(PolicyChange{"quota changed", "group staff", "p.toml:4", "bytes = 2G (was bytes = 1G)"},
                  PolicyChange{"quota added", "uid 1001", "p.toml:7", "regions = 1"},
                  PolicyChange{"quota removed", "any user", "p.toml:7", "regions = 1"}));
}

TEST(Changes, OfPoolsAndSettings) {
  const auto policy = [](const std::string& text) { return try_load(text).value(); };
  const auto before = policy("[broker]\ngrace=\"5s\"\n[pool.dram]\nbacking=\"memory\"\ncapacity=\"1G\"\n");
  const auto after = policy(
      "[broker]\ngrace=\"7s\"\nkeeper_deadline=\"3s\"\n[pool.dram]\nbacking=\"memory\"\ncapacity=\"2G\"\n"
      "[pool.more]\nbacking=\"memory\"\ncapacity=\"10%\"\n");
  EXPECT_THAT(changes_between(*before, *after),
              ElementsAre(PolicyChange{"pool changed", "pool dram", "p.toml:4", "capacity = 2G (was 1G)"},
                          PolicyChange{"pool added", "pool more", "p.toml:7", "memory, capacity 10%"},
                          PolicyChange{"setting changed", "[broker]", "", "grace = 7s (was 5s)"},
                          PolicyChange{"setting changed", "[broker]", "", "keeper_deadline = 3s (was 2s)"}));
}

// ---- who gains, who loses

std::vector<std::string> diff(const std::string& before, const std::string& after,
                              const std::vector<RegionInfo>& live = {}) {
  std::vector<Person> people;
  people.push_back({"alice", alice()});
  people.push_back({"bob", bob()});
  std::vector<std::string> lines;
  for (const Difference& one : differences(*load_with_pool(before), *load_with_pool(after), people, live)) {
    lines.push_back(one.whom + (one.gains ? ": gains " : ": loses ") + one.what + " " + one.name +
                    (one.pool.empty() ? "" : " in pool " + one.pool) + " (" + one.why + ")");
  }
  return lines;
}

RegionInfo live(const std::string& name, std::uint32_t owner, std::uint32_t mode) {
  RegionInfo region;
  region.name = name;
  region.pool = "dram";
  region.owner = owner;
  region.group = owner;
  region.mode = mode;
  region.size = 4096;
  region.lifetime = {LifetimeKind::persistent, {}};
  return region;
}

constexpr const char* kSees = "[[rule]]\nany=true\nverbs=[\"list\",\"show\"]\n";

TEST(Diff, OfARegionThatThereIsNamesTheRuleThatIsGone) {
  const std::string opens = std::string(kSees) + "[[rule]]\nuser=\"alice\"\nverbs=[\"open\"]\n";
  EXPECT_THAT(diff(opens, kSees, {live("models/a", kBob, 0666)}),
              testing::Contains("alice: loses open ro, open rw models/a (rule p.toml:7 gone)"));
  EXPECT_THAT(diff(kSees, opens, {live("models/a", kBob, 0666)}),
              testing::Contains("alice: gains open ro, open rw models/a (rule p.toml:7)"));
  for (const std::string& line : diff(opens, kSees, {live("models/a", kBob, 0666)}))
    EXPECT_THAT(line, testing::Not(testing::StartsWith("bob"))) << "his rules say what they said";
}

TEST(Diff, ARegionsModeCounts) {
  const std::string opens = std::string(kSees) + "[[rule]]\nuser=\"alice\"\nverbs=[\"open\"]\n";
  EXPECT_THAT(diff(opens, kSees, {live("m", kBob, 0664)}),
              testing::Contains("alice: loses open ro m (rule p.toml:7 gone)"));
  EXPECT_THAT(diff(opens, kSees, {live("m", kBob, 0600)}), IsEmpty()) << "she did not see it";
}

TEST(Diff, WhatIsPublishedIsHeldAgainstRulesAboutThat) {
  const std::string opens =
      std::string(kSees) +
      "[[rule]]\nuser=\"alice\"\nverbs=[\"open\"]\nrights=[\"ro\"]\npublished=\"required\"\n";
  RegionInfo region = live("models/a", kBob, 0666);
  EXPECT_THAT(diff(kSees, opens, {region}), IsEmpty());
  region.published_unix = std::chrono::nanoseconds(1);
  EXPECT_THAT(diff(kSees, opens, {region}), ElementsAre("alice: gains open ro models/a (rule p.toml:7)"));
}

TEST(Diff, ADenyIsNamed) {
  const std::string denied =
      std::string(kSees) + "[[rule]]\nuser=\"bob\"\neffect=\"deny\"\nnames=[\"m\"]\nverbs=[\"show\"]\n";
  EXPECT_THAT(diff(kSees, denied, {live("m", kAlice, 0666)}),
              ElementsAre("bob: loses show m (rule p.toml:7 denies)"));
  EXPECT_THAT(diff(denied, kSees, {live("m", kAlice, 0666)}),
              ElementsAre("bob: gains show m (rule p.toml:7 no longer denies)"));
}

TEST(Diff, WithoutRegionsTheGlobsOfTheRulesAreTried) {
  const std::string own = "[[rule]]\nany=true\nnames=[\"{user}/**\"]\nverbs=[\"create\"]\n";
  EXPECT_THAT(
      diff(own, std::string(own) + "[[rule]]\nuser=\"alice\"\nnames=[\"team/*/x\"]\nverbs=[\"open\"]\n"),
      ElementsAre("alice: gains open ro, open rw team/x/x (rule p.toml:8)"));
}

TEST(Diff, HowLongAndHowLargeACreateMayBe) {
  const auto rule = [](const char* more) {
    return std::string("[[rule]]\nuser=\"alice\"\nnames=[\"a\"]\nverbs=[\"create\"]\n") + more;
  };
  EXPECT_THAT(diff(rule("max_ttl=\"24h\"\n"), rule("max_ttl=\"1h\"\n")),
              ElementsAre("alice: loses create with a ttl above 1h a (max_ttl)"));
  EXPECT_THAT(diff(rule("max_size=\"64K\"\n"), rule("max_size=\"1M\"\n")),
              ElementsAre("alice: gains create of more than 64K a (max_size)"));
  EXPECT_THAT(diff(rule(""), rule("max_ttl=\"24h\"\n")),
              testing::Contains("alice: loses create persistent a (rule p.toml:4 gone)"));
}

TEST(Diff, OfThePoolsOnlyThoseWhereItIsSo) {
  const std::string pools = "[pool.tape]\nbacking=\"memory\"\ncapacity=\"1G\"\n";
  const auto in = [&](const char* where) {
    return pools +
           "[[rule]]\nuser=\"alice\"\nnames=[\"a\"]\nverbs=[\"create\"]\nlifetimes=[\"connection\"]\n" +
           where;
  };
  EXPECT_THAT(diff(in(""), in("pools=[\"dram\"]\n")),
              ElementsAre("alice: loses create connection a in pool tape (rule p.toml:7 gone)"));
}

TEST(Diff, PeopleAreThoseWhomTheRulesNameAndOwners) {
  const auto before = load_with_pool("[[rule]]\nuser=\"alice\"\n");
  const auto after = load_with_pool("[[rule]]\ngroup=\"staff\"\n[[rule]]\nany=true\n");
  std::vector<std::string> called;
  const std::vector<RegionInfo> regions{live("m", 4242, 0600)};
  for (const Person& person : people_of(*before, *after, regions)) called.push_back(person.called);
  EXPECT_EQ(called.size(), 4U);
  EXPECT_THAT(called, testing::IsSupersetOf({"members of group staff", "anybody else", "4242"}));
}

}  // namespace
}  // namespace mapcap::policy
