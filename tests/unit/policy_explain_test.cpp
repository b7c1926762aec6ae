// What explain says is what the broker would do, and which rule, pool or mode decides.
#include "policy/explain.h"

#include <gmock/gmock.h>

#include "tests/unit/policy_test_support.h"

namespace mapcap::policy {
namespace {

using testing::HasSubstr;
using namespace std::chrono_literals;

/// A create of a/b, 5000 bytes, persistent.
PolicyQuestion a_create() {
  PolicyQuestion asked;
  asked.region.name = "a/b";
  asked.region.size = 5000;
  asked.region.lifetime = {LifetimeKind::persistent, {}};
  return asked;
}

schema::Explained explain_create(const Policy& policy, const PolicyQuestion& asked) {
  const std::vector<Offer> offers = offers_of(policy);
  return explain(policy, alice(), {Verb::create, asked, offers, {}});
}

TEST(Explain, SaysWhatWasLeftOpenOfACreateAndHowItIsFilledIn) {
  const auto policy = load_with_pool("[[rule]]\nany=true\nmax_ttl=\"24h\"\n");
  PolicyQuestion asked = a_create();
  const schema::Explained refused = explain_create(*policy, asked);
  ASSERT_TRUE(refused.refusal);
  EXPECT_THAT(refused.refusal->sentence, HasSubstr("add --lifetime ttl:1d")) << "not \"allowed\"";
  ASSERT_TRUE(refused.judged);
  EXPECT_EQ(refused.judged->pool, "dram");
  EXPECT_EQ(refused.judged->size, 8192U);
  EXPECT_EQ(refused.judged->seal, SealKind::sealed);
  EXPECT_EQ(refused.judged->group, kAlice);
  asked.region.lifetime = {LifetimeKind::ttl, 1h};
  const schema::Explained allowed = explain_create(*policy, asked);
  EXPECT_FALSE(allowed.refusal);
  EXPECT_EQ(allowed.rule, "p.toml:4");
}

TEST(Explain, TellsFirstWhatDecidesThenWhatCameClosest) {
  const auto policy = load_with_pool(
      "[[rule]]\nany=true\nnames=[\"x/**\"]\n[[rule]]\nuser=\"bob\"\n"
      "[[rule]]\nany=true\nmax_size=\"4K\"\n"
      "[[rule]]\neffect=\"deny\"\ngroup=\"staff\"\nnames=[\"a/*\"]\n");
  const schema::Explained told = explain_create(*policy, a_create());
  ASSERT_TRUE(told.refusal);
  EXPECT_EQ(told.rule, "p.toml:12");
  ASSERT_EQ(told.rules.size(), 3U) << "none that is about bob";
  EXPECT_EQ(told.rules[0], (RuleSaid{"p.toml:12", true, "group staff", true, ""}));
  EXPECT_EQ(told.rules[1].place, "p.toml:9");
  EXPECT_EQ(told.rules[1].why, "max_size = 4K, and this takes 8K");
  EXPECT_EQ(told.rules[2].why, "names = x/**");
}

TEST(Explain, TellsOfSomeRulesAndCountsTheOthers) {
  std::string rules;
  for (std::size_t i = 0; i < kRulesTold + 5; ++i)
    rules += "[[rule]]\nuser=\"alice\"\nnames=[\"x" + std::to_string(i) + "\"]\n";
  const schema::Explained told = explain_create(*load_with_pool(rules), a_create());
  EXPECT_EQ(told.rules.size(), kRulesTold);
  EXPECT_EQ(told.more, 5U);
}

struct Case {
  const char* name;
  Wish wish;
  Existing region;
  const char* refused;  ///< Of alice, whom the rules let do everything; empty: allowed.
};
void PrintTo(const Case& one, std::ostream* out) {
  *out << one.name;
}
class OfARegion : public testing::TestWithParam<Case> {};

TEST_P(OfARegion, ItsModeAndItsOwnerCount) {
  const auto policy = load_with_pool("[[rule]]\nany=true\n");
  const auto& [name, wish, region, refused] = GetParam();
  const auto judged = judge(*policy, alice(), region, wish);
  PolicyQuestion asked;
  asked.region.name = region.name;
  asked.rights = wish.rights;
  asked.ttl = wish.ttl;
  const schema::Explained told = explain(*policy, alice(), {wish.verb, asked, {}, region});
  EXPECT_EQ(judged.has_value(), *refused == '\0');
  EXPECT_EQ(told.refusal.has_value(), !judged.has_value());
  if (!judged) {
    EXPECT_THAT(judged.error().sentence, HasSubstr(refused));
    EXPECT_EQ(told.refusal->sentence, judged.error().sentence);
  }
}

Existing region(std::uint32_t owner, std::uint32_t group, std::uint32_t mode,
                Lifetime lifetime = {LifetimeKind::ttl, 1h}) {
  Existing existing;
  existing.name = "r";
  existing.pool = "dram";
  existing.owner = owner;
  existing.group = group;
  existing.mode = mode;
  existing.lifetime = lifetime;
  return existing;
}

INSTANTIATE_TEST_SUITE_P(
    Explain, OfARegion,
    testing::Values(
        Case{"OwnRead", {Verb::open, Access::read_only}, region(kAlice, kAlice, 0600), ""},
        Case{"OwnButNotWritable",
             {Verb::open, Access::read_write},
             region(kAlice, kAlice, 0400),
             "the mode 0400 of region r"},
        Case{"OfAGroup", {Verb::open, Access::read_write}, region(kBob, kStaff, 0660), ""},
        Case{"OfOthers", {Verb::open, Access::read_only}, region(kBob, kDevelopers, 0664), ""},
        Case{"OfOthersNoWrite",
             {Verb::open, Access::read_write},
             region(kBob, kDevelopers, 0664),
             "does not give user alice a rw grant"},
        Case{"Hidden", {Verb::show}, region(kBob, kDevelopers, 0660), "there is no region named r"},
        Case{"HiddenFromLists", {Verb::list}, region(kBob, kDevelopers, 0660), "there is no region named r"},
        Case{"SeenInLists", {Verb::list}, region(kBob, kDevelopers, 0664), ""},
        Case{"NotHisToRevoke", {Verb::revoke}, region(kBob, kDevelopers, 0666), "only the owner of region r"},
        Case{"HisToRevoke", {Verb::revoke}, region(kAlice, kDevelopers, 0), ""},
        Case{"Renew", {Verb::renew, {}, 2h}, region(kAlice, kAlice, 0600), ""},
        Case{"RenewForLessThanASecond",
             {Verb::renew, {}, 1ms},
             region(kAlice, kAlice, 0600),
             "a ttl is at least 1 s"},
        Case{"RenewWhatDoesNotExpire",
             {Verb::renew, {}, 2h},
             region(kAlice, kAlice, 0600, {LifetimeKind::persistent, {}}),
             "only a ttl can be renewed"}),
    [](const auto& one) { return std::string(one.param.name); });

TEST(Judge, ARenewIsJudgedByTheTtlThatItWantsNotByTheOneThatThereWas) {
  const auto policy = load_with_pool("[[rule]]\nany=true\nmax_ttl=\"1h\"\n");
  const Existing longer = region(kAlice, kAlice, 0600, {LifetimeKind::ttl, 5h});
  EXPECT_TRUE(judge(*policy, alice(), longer, {Verb::renew, {}, 30min}));
  const auto refused = judge(*policy, alice(), longer, {Verb::renew, {}, 2h});
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().sentence, testing::EndsWith("; ask for --ttl 1h"));
}

TEST(Explain, OfAVerbWithoutARegionNeedsNoRegion) {
  const auto policy = load_with_pool("[[rule]]\nuser=\"alice\"\nverbs=[\"reload\"]\n");
  const PolicyQuestion none;
  EXPECT_FALSE(explain(*policy, alice(), {Verb::reload, none, {}, {}}).refusal);
  EXPECT_TRUE(explain(*policy, alice(), {Verb::policy, none, {}, {}}).refusal);
  EXPECT_TRUE(explain(*policy, bob(), {Verb::reload, none, {}, {}}).refusal);
}

TEST(Verbs, OfThePolicyAreNotPartOfEverythingUnderAPrefix) {
  const auto policy = load_with_pool(
      "[[rule]]\nuser=\"alice\"\nnames=[\"a/**\"]\n[[rule]]\nuser=\"bob\"\n[[rule]]\nadministrator=true\n");
  for (const Verb verb : {Verb::reload, Verb::policy}) {
    Action action;
    action.verb = verb;
    EXPECT_FALSE(policy->allows(alice(), action)) << to_string(verb);
    EXPECT_FALSE(policy->allows(bob(), action)) << "nor of everything: " << to_string(verb);
    EXPECT_TRUE(policy->allows(root(), action)) << to_string(verb);
  }
}

}  // namespace
}  // namespace mapcap::policy
