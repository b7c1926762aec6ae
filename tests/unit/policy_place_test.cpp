// Promise 14: a deny of who runs in a unit or below a cgroup reaches all who may be there, and nothing is allowed by it.
#include "policy/place.h"

#include <gmock/gmock.h>

#include <memory>
#include <string>
#include <vector>

#include "policy/diff.h"
#include "policy/endpoint.h"
#include "policy/explain.h"
#include "policy_test_support.h"

namespace mapcap::policy {
namespace {

using testing::HasSubstr;

Subject at(const std::string& cgroup, Subject who = alice()) {
  PeerLabel label;
  label.cgroup = cgroup;
  who.set_label(std::move(label));
  return who;
}

/// Whether the deny applies to somebody who runs there.
bool denied(const std::string& place, const std::string& cgroup) {
  const auto policy =
      load_with_pool("[[rule]]\nany=true\n[[rule]]\nany=true\neffect=\"deny\"\n" + place + "\n");
  if (!policy) return false;
  Action action;
  action.verb = Verb::pools;
  return !policy->allows(at(cgroup), action);
}

TEST(PlaceTest, AUnitIsItsNameAnywhereOnTheWay) {
  const std::string unit = "unit=\"db.service\"";
  EXPECT_TRUE(denied(unit, "/system.slice/db.service"));
  EXPECT_TRUE(denied(unit, "/system.slice/db.service/below")) << "where its processes can go by themselves";
  EXPECT_TRUE(denied(unit, "/system.slice/db.service/other.service")) << "and call that what they like";
  EXPECT_FALSE(denied(unit, "/system.slice/web.service"));
  EXPECT_FALSE(denied(unit, "/system.slice/mydb.service"));
  EXPECT_FALSE(denied(unit, "/"));
  EXPECT_TRUE(denied("unit=\"db@*.service\"", "/system.slice/db@7.service"));
  EXPECT_FALSE(denied("unit=\"db@*.service\"", "/system.slice/db.service"));
}

TEST(PlaceTest, ACgroupIsAllBelowIt) {
  EXPECT_TRUE(denied("cgroup=\"/kubepods/**\"", "/kubepods/pod1/c"));
  EXPECT_FALSE(denied("cgroup=\"/kubepods/**\"", "/kubepods.slice/pod1"));
  EXPECT_TRUE(denied("cgroup=\"/kubepods\"", "/kubepods"));
  EXPECT_TRUE(denied("cgroup=\"/kubepods\"", "/kubepods/pod1/c"));
  EXPECT_TRUE(denied("cgroup=\"/kubepods/*\"", "/kubepods/pod1/c"));
  EXPECT_FALSE(denied("cgroup=\"/kubepods\"", "/"));
  EXPECT_FALSE(denied("cgroup=\"/kubepods\"", "/x/kubepods"));
}

TEST(PlaceTest, BothAreBoth) {
  const std::string both = "unit=\"a.service\"\ncgroup=\"/x/**\"";
  EXPECT_TRUE(denied(both, "/x/a.service"));
  EXPECT_FALSE(denied(both, "/y/a.service"));
  EXPECT_FALSE(denied(both, "/x/b.service"));
}

TEST(PlaceTest, WhereTheKernelDoesNotTellCountsAsThere) {
  for (const char* hidden : {"", "/..", "/../other/a"}) EXPECT_TRUE(denied("unit=\"db.service\"", hidden));
  const auto policy =
      load_with_pool("[[rule]]\nany=true\n[[rule]]\nany=true\neffect=\"deny\"\nunit=\"db.service\"\n");
  Action action;
  action.verb = Verb::pools;
  const auto hidden = policy->authorize(at(""), action);
  ASSERT_FALSE(hidden);
  EXPECT_THAT(hidden.error().sentence,
              HasSubstr("in unit db.service; which cgroup that is the kernel does not tell"));
  const auto there = policy->authorize(at("/db.service"), action);
  ASSERT_FALSE(there);
  EXPECT_THAT(there.error().sentence, testing::EndsWith("to user alice in unit db.service"));
}

TEST(PlaceTest, ItNarrowsWhomTheRuleIsAbout) {
  const auto policy =
      load_with_pool("[[rule]]\nany=true\n[[rule]]\nuser=\"bob\"\neffect=\"deny\"\nunit=\"db.service\"\n");
  Action action;
  action.verb = Verb::pools;
  EXPECT_TRUE(policy->allows(at("/db.service"), action));
  EXPECT_FALSE(policy->allows(at("/db.service", bob()), action));
  EXPECT_TRUE(policy->allows(at("/web.service", bob()), action));
}

/// Whoever comes by a socket is where he is, not where its maker was.
TEST(PlaceTest, OfAnEndpointItsClientsPlaceCounts) {
  const auto policy =
      load_with_pool("[[rule]]\nany=true\n[[rule]]\nany=true\neffect=\"deny\"\nunit=\"db.service\"\n");
  auto endpoint = std::make_shared<Endpoint>(Endpoint{"e", kFirstPrincipal, {}, {}, alice()});
  endpoint->record.subject.any = true;
  endpoint->record.verbs = usual_verbs_of_endpoints();
  Action action;
  action.verb = Verb::list;
  EXPECT_TRUE(policy->allows(at("/web.service", Subject::by_endpoint(endpoint)), action));
  EXPECT_FALSE(policy->allows(at("/db.service", Subject::by_endpoint(endpoint)), action));
}

TEST(PlaceTest, AKernelThatTellsNoneIsToldOf) {
  Accounts accounts = fake_accounts();
  accounts.tells_cgroups = [] { return false; };
  const std::string text =
      std::string(kOnePool) + "[[rule]]\nany=true\neffect=\"deny\"\nunit=\"db.service\"\n";
  const auto loaded = load_text(text, "p.toml", accounts);
  ASSERT_FALSE(loaded);
  EXPECT_THAT(loaded.error().sentence, HasSubstr("Linux 6.5"));
}

// Promise 14: who is told that somebody may is told where he may not.
TEST(PlaceTest, AnExplanationTellsWhereWhatIsAllowedIsDenied) {
  const auto policy = load_with_pool(
      "[[rule]]\nuser=\"alice\"\n"
      "[[rule]]\nuser=\"alice\"\neffect=\"deny\"\nverbs=[\"open\"]\nunit=\"job.service\"\n");
  const auto told = [&](Verb verb) {
    PolicyQuestion asked;
    asked.region.name = "a/b";
    Existing region{"a/b", {}};
    region.owner = alice().uid();
    return explain(*policy, alice(), {verb, asked, {}, region});
  };
  EXPECT_FALSE(told(Verb::open).refusal);
  EXPECT_EQ(told(Verb::open).elsewhere, "rule p.toml:6 denies it in unit job.service");
  EXPECT_FALSE(told(Verb::revoke).refusal);
  EXPECT_EQ(told(Verb::revoke).elsewhere, "") << "the rule is about another verb";
}

TEST(PlaceTest, ADenyOfOnePlaceShadowsNothing) {
  const auto examined = examine_text(
      std::string(kOnePool) +
          "[[rule]]\nadministrator=true\n[[rule]]\nany=true\neffect=\"deny\"\nunit=\"a.service\"\n"
          "[[rule]]\nany=true\neffect=\"deny\"\nunit=\"b.service\"\n",
      "p.toml", fake_accounts());
  EXPECT_TRUE(examined.policy);
  EXPECT_TRUE(examined.problems.empty());
}

/// Of the people whom it holds against both policies nobody is anywhere but those whom the rule means.
TEST(PlaceTest, ADiffTellsOfADenyOfAPlace) {
  const auto before = load_with_pool("[[rule]]\nany=true\n");
  for (const std::string place :
       {"unit=\"db@*.service\"", "cgroup=\"/a?/**/b/**\"", "unit=\"x.scope\"\ncgroup=\"/p\""}) {
    const auto after =
        load_with_pool("[[rule]]\nany=true\n[[rule]]\nany=true\neffect=\"deny\"\n" + place + "\n");
    ASSERT_TRUE(before && after);
    const std::vector<Difference> told = differences(*before, *after, people_of(*before, *after, {}), {});
    ASSERT_FALSE(told.empty()) << place;
    for (const Difference& one : told) {
      EXPECT_THAT(one.whom, testing::StartsWith("any user in "));
      EXPECT_FALSE(one.gains);
    }
  }
}

}  // namespace
}  // namespace mapcap::policy
