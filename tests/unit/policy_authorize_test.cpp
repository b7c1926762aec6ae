// What a policy allows, and what it says when it does not.
#include <gmock/gmock.h>

#include <chrono>
#include <numeric>
#include <vector>

#include "tests/support/processor_time.h"
#include "tests/unit/policy_test_support.h"

namespace mapcap::policy {
namespace {

using testing::HasSubstr;

std::string refusal(const Policy& policy, const Subject& subject, const Action& action) {
  const auto result = policy.authorize(subject, action);
  EXPECT_EQ(result.has_value(), policy.allows(subject, action));
  if (result) return "allowed by " + result.value().rule;
  EXPECT_EQ(result.error().code, ErrorCode::denied);
  return result.error().sentence;
}

Action create(std::string_view name, std::string_view pool = "dram") {
  Action action;
  action.verb = Verb::create;
  action.name = name;
  action.pool = pool;
  return action;
}

TEST(Authorize, WithoutRulesEverythingIsDenied) {
  const auto policy = load_with_pool("");
  EXPECT_EQ(refusal(*policy, root(), create("a")),
            "no rule allows create a in pool dram to user root; no rule in p.toml is about this user");
}

// Promise 15
TEST(Authorize, WhatIsToBePublishedIsOpenedOnlyThen) {
  const auto policy = load_with_pool("[[rule]]\nany=true\nnames=[\"**\"]\npublished=\"required\"\n");
  Action action = open("models/a", Access::read_only);
  EXPECT_THAT(refusal(*policy, alice(), action),
              HasSubstr("(published = required, and this is not published)"));
  action.published = true;
  EXPECT_EQ(refusal(*policy, alice(), action), "allowed by p.toml:4");
  for (const Verb verb : {Verb::create, Verb::show, Verb::list, Verb::publish, Verb::revoke}) {
    Action other = create("models/a");
    other.verb = verb;
    EXPECT_EQ(refusal(*policy, alice(), other), "allowed by p.toml:4") << to_string(verb);
  }
}

TEST(Authorize, APermitNamesTheFirstRuleThatAllows) {
  const auto policy =
      load_with_pool("[[rule]]\nuser=\"bob\"\n[[rule]]\nuser=\"alice\"\n[[rule]]\nany=true\n");
  EXPECT_EQ(refusal(*policy, alice(), create("a")), "allowed by p.toml:6");
}

TEST(Authorize, AnExplicitDenyWinsWhereverItStands) {
  for (const char* text : {"[[rule]]\nany=true\n[[rule]]\neffect=\"deny\"\nuser=\"alice\"\n",
                           "[[rule]]\neffect=\"deny\"\nuser=\"alice\"\n[[rule]]\nany=true\n"}) {
    const auto policy = load_with_pool(text);
    EXPECT_THAT(refusal(*policy, alice(), create("a")),
                testing::MatchesRegex("rule p.toml:[46] denies create a in pool dram to user alice"));
    EXPECT_THAT(refusal(*policy, bob(), create("a")), HasSubstr("allowed"));
  }
}

TEST(Authorize, ADenialNamesTheRulesThatCameClosest) {
  const auto policy = load_with_pool(
      "[[rule]]\nany=true\nverbs=[\"show\"]\n"
      "[[rule]]\nuser=\"alice\"\nnames=[\"{user}/**\"]\n"
      "[[rule]]\nuser=\"alice\"\nnames=[\"x/*\"]\nmax_size=\"1M\"\n");
  Action action = create("x/y");
  action.size = 2_MiB;
  EXPECT_EQ(refusal(*policy, alice(), action),
            "no rule allows create x/y in pool dram to user alice; rules that came closest: p.toml:10 "
            "(max_size = 1M, and this takes 2M), "
            "p.toml:7 (names = {user}/**), p.toml:4 (verbs = show)");
}

TEST(Authorize, UserAndUidInNamesAreTheCallers) {
  const auto policy = load_with_pool("[[rule]]\nany=true\nnames=[\"{user}/**\", \"u/{uid}/*\"]\n");
  EXPECT_THAT(refusal(*policy, alice(), create("alice/a/b")), HasSubstr("allowed"));
  EXPECT_THAT(refusal(*policy, bob(), create("alice/a/b")), HasSubstr("no rule allows"));
  EXPECT_THAT(refusal(*policy, alice(), create("alice")), HasSubstr("no rule allows"));
  EXPECT_THAT(refusal(*policy, alice(), create("u/1000/x")), HasSubstr("allowed"));
  EXPECT_THAT(refusal(*policy, alice(), create("u/1000/x/y")), HasSubstr("no rule allows"));
  EXPECT_THAT(refusal(*policy, alice(), create("u/1001/x")), HasSubstr("no rule allows"));
}

// Promise 12: an account cannot be called so that a pattern, or somebody else's uid, comes out of it.
TEST(Authorize, AUserNameThatIsNoPlainNameIsReplacedByTheUid) {
  const auto policy = load_with_pool("[[rule]]\nany=true\nnames=[\"{user}/**\"]\n");
  for (const char* name : {"**", "a*", "1000", "a/b", "..", "-x", "", "{uid}", "a b", "x\n"}) {
    const Subject odd = Subject::for_explanation(4242, 4242, {}, name);
    EXPECT_EQ(odd.user(), "4242") << name;
    EXPECT_THAT(refusal(*policy, odd, create("1000/a")), HasSubstr("no rule allows")) << name;
    EXPECT_THAT(refusal(*policy, odd, create("4242/a")), HasSubstr("allowed")) << name;
  }
}

TEST(Authorize, SubjectsAreUsersUidsGroupsAndAny) {
  const auto policy = load_with_pool(
      "[[rule]]\nuser=\"alice\"\nnames=[\"by-user\"]\n[[rule]]\nuid=[7,1001]\nnames=[\"by-uid\"]\n"
      "[[rule]]\ngroup=\"staff\"\nnames=[\"by-group\"]\n[[rule]]\nuser=1001\nnames=[\"by-number\"]\n");
  const auto may = [&](const Subject& who, std::string_view name) {
    return policy->allows(who, create(name));
  };
  EXPECT_TRUE(may(alice(), "by-user") && may(alice(), "by-group"));
  EXPECT_FALSE(may(alice(), "by-uid") || may(alice(), "by-number"));
  EXPECT_TRUE(may(bob(), "by-uid") && may(bob(), "by-number"));
  EXPECT_FALSE(may(bob(), "by-user") || may(bob(), "by-group"));
}

TEST(Authorize, ThePrimaryGroupIsAGroupToo) {
  const auto policy = load_with_pool("[[rule]]\ngroup=50\n");
  EXPECT_TRUE(policy->allows(Subject::for_explanation(5, kStaff, {}, "x"), create("a")));
}

TEST(Authorize, WhoIsInEveryGroupIsJudgedAsFastAsAnybody) {
  const auto policy = load_with_pool("[[rule]]\ngroup=70\nverbs=[\"create\"]\n[[rule]]\ngroup=71\n");
  std::vector<std::uint32_t> groups(65'535);
  std::iota(groups.begin(), groups.end(), 71);
  const Subject everywhere = Subject::for_explanation(5000, 5000, groups, "");
  const Subject somewhere = Subject::for_explanation(5000, 5000, std::vector<std::uint32_t>{71}, "");
  const auto cost_for = [&](const Subject& who) {
    return test::processor_time([&] {
      for (int i = 0; i < 1000; ++i) EXPECT_TRUE(policy->allows(who, create("a")));
    });
  };
  // With a look at each group it is thousands of times as much.
  EXPECT_LT(cost_for(everywhere), 10 * cost_for(somewhere));
  EXPECT_EQ(refusal(*policy, everywhere, create("a")), "allowed by p.toml:7");
  const Subject nowhere = Subject::for_explanation(5000, 5000, {}, "");
  EXPECT_FALSE(policy->allows(nowhere, create("a")));
}

// Promise 2
TEST(Authorize, RightsOfAnAllowAreAnUpperBoundAndOfADenyALowerOne) {
  const auto readers = load_with_pool("[[rule]]\nany=true\nrights=[\"ro\"]\n");
  EXPECT_TRUE(readers->allows(alice(), open("a", Access::read_only)));
  EXPECT_FALSE(readers->allows(alice(), open("a", Access::read_write)));
  const auto writers = load_with_pool("[[rule]]\nany=true\nrights=[\"rw\"]\n");
  EXPECT_TRUE(writers->allows(alice(), open("a", Access::read_only)));
  const auto no_writers =
      load_with_pool("[[rule]]\nany=true\n[[rule]]\neffect=\"deny\"\nany=true\nrights=[\"rw\"]\n");
  EXPECT_TRUE(no_writers->allows(alice(), open("a", Access::read_only)));
  EXPECT_FALSE(no_writers->allows(alice(), open("a", Access::read_write)));
  const auto nobody =
      load_with_pool("[[rule]]\nany=true\n[[rule]]\neffect=\"deny\"\nany=true\nrights=[\"ro\"]\n");
  EXPECT_FALSE(nobody->allows(alice(), open("a", Access::read_write)));
}

TEST(Authorize, MaximaAreInclusive) {
  const auto policy = load_with_pool("[[rule]]\nany=true\nmax_size=\"64M\"\nmax_ttl=\"1h\"\n");
  Action action = create("a");
  action.size = 64_MiB;
  action.lifetime = Lifetime{LifetimeKind::ttl, std::chrono::hours(1)};
  EXPECT_TRUE(policy->allows(alice(), action));
  action.size = ByteCount{(64_MiB).value + 1};
  EXPECT_THAT(refusal(*policy, alice(), action), HasSubstr("(max_size = 64M, and this takes 67108865)"));
  action.size = 64_MiB;
  action.lifetime->ttl += std::chrono::nanoseconds(1);
  EXPECT_THAT(refusal(*policy, alice(), action), HasSubstr("(max_ttl = 1h)"));
}

TEST(Authorize, APermitSaysUpToWhere) {
  const auto policy = load_with_pool("[[rule]]\nany=true\nmax_size=\"64M\"\nmax_ttl=\"1h\"\n");
  const auto permit = policy->authorize(alice(), create("a"));
  ASSERT_TRUE(permit);
  EXPECT_EQ(permit.value().max_size, 64_MiB);
  EXPECT_EQ(permit.value().max_ttl, std::chrono::hours(1));
}

TEST(Authorize, AMaximalTtlExcludesRegionsThatNeverEndUnlessTheyAreListed) {
  Action action = create("a");
  action.lifetime = Lifetime{LifetimeKind::persistent, {}};
  const auto silent = load_with_pool("[[rule]]\nany=true\nmax_ttl=\"1h\"\n");
  EXPECT_THAT(refusal(*silent, alice(), action), HasSubstr("(max_ttl excludes persistent)"));
  const auto listed =
      load_with_pool("[[rule]]\nany=true\nmax_ttl=\"1h\"\nlifetimes=[\"persistent\",\"ttl\"]\n");
  EXPECT_TRUE(listed->allows(alice(), action));
  action.lifetime = Lifetime{LifetimeKind::connection, {}};
  EXPECT_TRUE(silent->allows(alice(), action));
  EXPECT_THAT(refusal(*listed, alice(), action), HasSubstr("(lifetimes = ttl, persistent)"));
}

TEST(Authorize, CacheModesSealsAndPoolsMustBeListed) {
  const auto policy = load_with_pool(
      "[pool.other]\nbacking=\"memory\"\ncapacity=\"1G\"\n"
      "[[rule]]\nany=true\ncache=[\"wb\",\"wc\"]\nseals=[\"sealed\"]\npools=[\"dram\"]\n");
  Action action = create("a");
  action.cache = CacheMode::write_combining;
  action.seal = SealKind::sealed;
  EXPECT_TRUE(policy->allows(alice(), action));
  action.cache = CacheMode::uncached;
  EXPECT_THAT(refusal(*policy, alice(), action), HasSubstr("(cache = wb, wc, and this is uc)"));
  action.cache = CacheMode::write_back;
  action.seal = SealKind::revocable;
  EXPECT_THAT(refusal(*policy, alice(), action), HasSubstr("(seals = sealed, and this is revocable)"));
  EXPECT_THAT(refusal(*policy, alice(), create("a", "other")), HasSubstr("(pools = dram)"));
}

TEST(Authorize, WhatAnActionLeavesOpenRestrictsNoAllowAndMeetsNoDeny) {
  const auto policy = load_with_pool(
      "[[rule]]\nany=true\npools=[\"dram\"]\ncache=[\"wb\"]\nrights=[\"ro\"]\nlifetimes=[\"ttl\"]\nseals=["
      "\"sealed\"]\n"
      "max_size=\"1M\"\n"
      "[[rule]]\neffect=\"deny\"\nany=true\ncache=[\"wt\"]\n[[rule]]\neffect=\"deny\"\nany=true\npools=["
      "\"dram\"]\n"
      "names=[\"b\"]\n[[rule]]\neffect=\"deny\"\nany=true\nrights=[\"rw\"]\n");
  EXPECT_TRUE(policy->allows(alice(), create("a", "")));
  EXPECT_TRUE(policy->allows(alice(), create("b", "")));
  EXPECT_FALSE(policy->allows(alice(), create("b", "dram")));
}

TEST(Authorize, ARuleAboutRegionsDoesNotGiveTheVerbsThatAreAboutNone) {
  const auto policy = load_with_pool(
      "[[rule]]\nuser=\"alice\"\nnames=[\"**\"]\n[[rule]]\nuser=\"bob\"\npools=[\"dram\"]\n[[rule]]\nuser="
      "\"root\"\n");
  for (const Verb verb : {Verb::pools, Verb::quota, Verb::quota_set, Verb::clone}) {
    EXPECT_FALSE(policy->allows(alice(), action_of(verb))) << to_string(verb);
    EXPECT_FALSE(policy->allows(bob(), action_of(verb))) << to_string(verb);
    EXPECT_TRUE(policy->allows(root(), action_of(verb))) << to_string(verb);
  }
  const auto listed = load_with_pool("[[rule]]\nany=true\nnames=[\"x\"]\nverbs=[\"open\",\"pools\"]\n");
  EXPECT_TRUE(listed->allows(alice(), action_of(Verb::pools)));
  EXPECT_FALSE(listed->allows(alice(), action_of(Verb::quota)));
}

TEST(Authorize, WhoIsNoAdministratorAdministersOnlyByARuleThatListsTheVerb) {
  for (const Verb verb : {Verb::shutdown, Verb::quota_set, Verb::reload, Verb::policy}) {
    const std::string word(to_string(verb));
    const auto policy = load_with_pool("[[rule]]\nuser=\"bob\"\nverbs=[\"" + word +
                                       "\"]\n[[rule]]\nany=true\n[[rule]]\nuser=\"alice\"\n");
    EXPECT_TRUE(policy->allows(root(), action_of(verb))) << word;
    EXPECT_TRUE(policy->allows(bob(), action_of(verb))) << word;
    EXPECT_FALSE(policy->allows(alice(), action_of(verb))) << word;
    const auto refused = policy->authorize(alice(), action_of(verb));
    ASSERT_FALSE(refused) << word;
    EXPECT_THAT(refused.error().sentence,
                HasSubstr("it does not list this verb, which is the administrator's"));
    const auto denied =
        load_with_pool("[[rule]]\nany=true\n[[rule]]\neffect=\"deny\"\nany=true\nverbs=[\"" + word + "\"]\n");
    EXPECT_FALSE(denied->allows(root(), action_of(verb))) << word;
  }
}

// Promise 14: what makes no sense with the verb must not void a denial of it.
TEST(Authorize, ADenyOfAVerbThatIsAboutNoRegionHoldsWhateverElseItLists) {
  for (const char* listed : {"", "names=[\"x/**\"]\n", "pools=[\"dram\"]\n", "seals=[\"sealed\"]\n",
                             "cache=[\"wb\"]\n", "lifetimes=[\"ttl\"]\n", "rights=[\"rw\"]\n"}) {
    const auto policy = load_with_pool(
        std::string(
            "[[rule]]\nany=true\n[[rule]]\neffect=\"deny\"\nany=true\nverbs=[\"pools\",\"create\"]\n") +
        listed);
    EXPECT_FALSE(policy->allows(alice(), action_of(Verb::pools))) << listed;
    EXPECT_TRUE(policy->allows(alice(), action_of(Verb::quota))) << listed;
  }
  const auto of_regions =
      load_with_pool("[[rule]]\nany=true\n[[rule]]\neffect=\"deny\"\nany=true\nseals=[\"sealed\"]\n");
  EXPECT_TRUE(of_regions->allows(alice(), action_of(Verb::pools))) << "what lists no verb is about regions";
}

TEST(Authorize, ADenyAboutRegionsDoesNotTakeTheVerbsThatAreAboutNone) {
  const auto policy =
      load_with_pool("[[rule]]\nany=true\n[[rule]]\neffect=\"deny\"\nany=true\nnames=[\"**\"]\n");
  EXPECT_TRUE(policy->allows(alice(), action_of(Verb::pools)));
  EXPECT_FALSE(policy->allows(alice(), create("a")));
}

TEST(Authorize, AListIsAllowedWhenAnyNameMayBeListed) {
  const auto policy = load_with_pool(
      "[[rule]]\nuser=\"alice\"\nnames=[\"a/*\"]\nverbs=[\"list\"]\n"
      "[[rule]]\neffect=\"deny\"\nany=true\nnames=[\"a/secret\"]\n");
  EXPECT_TRUE(policy->allows(alice(), action_of(Verb::list)));
  EXPECT_FALSE(policy->allows(bob(), action_of(Verb::list)));
  Action one = action_of(Verb::list);
  one.name = "a/b";
  EXPECT_TRUE(policy->allows(alice(), one));
  one.name = "a/secret";
  EXPECT_FALSE(policy->allows(alice(), one));
  one.name = "b";
  EXPECT_FALSE(policy->allows(alice(), one));
}

TEST(DefaultPolicy, LetsEveryUserRuleTheirOwnPrefixAndNothingMore) {
  const auto loaded = load_default();
  ASSERT_TRUE(loaded) << loaded.error().sentence;
  const Policy& policy = *loaded.value();
  ASSERT_EQ(policy.pools().size(), 1U);
  EXPECT_EQ(policy.pools()[0].name, "dram");
  EXPECT_EQ(policy.pools()[0].capacity, Capacity(Percent{50}));
  for (const Verb verb : {Verb::create, Verb::open, Verb::list, Verb::show, Verb::renew, Verb::revoke}) {
    Action action = action_of(verb);
    action.name = "alice/a";
    EXPECT_TRUE(policy.allows(alice(), action)) << to_string(verb);
    const bool reads = verb == Verb::open || verb == Verb::list || verb == Verb::show;
    EXPECT_EQ(policy.allows(bob(), action), reads) << to_string(verb);
    EXPECT_TRUE(policy.allows(root(), action)) << to_string(verb);
  }
  for (const Verb verb : {Verb::pools, Verb::quota, Verb::clone})
    EXPECT_TRUE(policy.allows(bob(), action_of(verb)));
  EXPECT_FALSE(policy.allows(bob(), action_of(Verb::quota_set)));
  EXPECT_TRUE(policy.allows(root(), action_of(Verb::quota_set)));
  ASSERT_EQ(policy.quotas().size(), 1U);
  EXPECT_EQ(policy.quotas()[0].limits, (Limits{std::nullopt, 1024, 4096, 64}));
}

TEST(Authorize, AThousandRulesAboutOthersCostNothing) {
  std::string text;
  for (int i = 0; i < 1000; ++i) {
    text +=
        "[[rule]]\nuser=" + std::to_string(5000 + i) + "\nnames=[\"p" + std::to_string(i) + "/**/x*y*z\"]\n";
  }
  const std::string hers = "[[rule]]\nuser=\"alice\"\nnames=[\"{user}/**\"]\n";
  const auto policy = load_with_pool(text + hers);
  const Subject who = alice();
  const auto alone = load_with_pool(hers);
  constexpr int kRounds = 1000;
  const auto cost_with = [&](const auto& rules) {
    return test::processor_time([&] {
      for (int i = 0; i < kRounds; ++i) EXPECT_TRUE(rules->allows(who, create("alice/a")));
    });
  };
  const std::chrono::nanoseconds all = cost_with(policy);
  // A pass over a thousand globs is a hundred times as much.
  EXPECT_LT(all, 10 * cost_with(alone));
  RecordProperty("nanoseconds", static_cast<int>(all.count() / kRounds));
}

TEST(Authorize, WhatIsDeniedToAUserOrAGroupIsDeniedToTheUidsLentToThem) {
  const auto policy = load_with_pool(
      "[[rule]]\nany = true\nnames = [\"**\"]\n"
      "[[rule]]\nuser = \"alice\"\neffect = \"deny\"\nnames = [\"payroll/**\", \"{user}/x\"]\n"
      "[[rule]]\ngroup = \"staff\"\neffect = \"deny\"\nnames = [\"hr/**\"]\n"
      "[[rule]]\nuser = \"bob\"\nverbs = [\"quota\"]\n");
  Subject lent = Subject::for_explanation(100'007, 100'007, {}, "");
  const auto opens = [&](std::string_view name) {
    Action action;
    action.verb = Verb::open;
    action.name = name;
    return policy->allows(lent, action);
  };
  for (const char* name : {"payroll/a", "hr/a", "alice/x", "public/a"}) EXPECT_TRUE(opens(name)) << name;
  lent.set_lender(std::make_shared<const Lender>(Lender{kAlice, "alice", {kStaff}}));
  for (const char* name : {"payroll/a", "hr/a", "alice/x"}) EXPECT_FALSE(opens(name)) << name;
  EXPECT_TRUE(opens("public/a"));
  Action quota;
  quota.verb = Verb::quota;
  lent.set_lender(std::make_shared<const Lender>(Lender{kBob, "bob", {}}));
  EXPECT_FALSE(policy->allows(lent, quota)) << "what is allowed to him is not";
}

}  // namespace
}  // namespace mapcap::policy
