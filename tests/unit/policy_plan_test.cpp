// What a create leaves open is filled in, and what will be made is judged.
#include "policy/plan.h"

#include <gmock/gmock.h>

#include "tests/unit/policy_test_support.h"

namespace mapcap::policy {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using namespace std::chrono_literals;
using namespace schema;

constexpr const char* kAllow = "[[rule]]\nany=true\n";

/// dram: 4 KiB granules, sealed by default. huge: 2 MiB, revocable. bar: uncached by nature.
std::vector<Offer> three_pools() {
  const auto rounded = [](std::uint64_t granule) {
    return [granule](ByteCount asked, CacheMode) -> Result<ByteCount> {
      return ByteCount{(asked.value + granule - 1) / granule * granule};
    };
  };
  return {{"dram", {SealKind::sealed, SealKind::revocable}, {CacheMode::write_back}, rounded(4096)},
          {"huge", {SealKind::revocable}, {CacheMode::write_back}, rounded(2U << 20U)},
          {"bar", {SealKind::irrevocable}, {CacheMode::uncached, CacheMode::write_combining}, rounded(4096)}};
}

std::shared_ptr<const Policy> with_three_pools(const std::string& rules) {
  return load_with_pool(
      "[pool.huge]\nbacking=\"memory\"\ncapacity=\"1G\"\nhuge=\"always\"\n"
      "[pool.bar]\nbacking=\"pci-bar\"\nresources=[\"/r\"]\n" +
      rules);
}

Create ask_for(const std::string& pool = "", std::uint64_t size = 4096) {
  Create ask;
  ask.name = "a/b";
  ask.pool = pool;
  ask.size = size;
  ask.lifetime = {LifetimeKind::persistent, {}};
  return ask;
}

std::string verdict(const Policy& policy, const Create& ask) {
  const auto plan = plan_create(policy, alice(), ask, three_pools());
  if (plan) return "in " + three_pools().at(plan.value().offer).name;
  return plan.error().sentence;
}

TEST(PlanCreate, SaysWhatWillBeMade) {
  const auto policy = with_three_pools(kAllow);
  Create ask = ask_for("huge", 5);
  ask.cache = {CacheMode::write_combining, false};
  const auto plan = plan_create(*policy, alice(), ask, three_pools());
  ASSERT_TRUE(plan) << plan.error().sentence;
  EXPECT_EQ(plan.value().offer, 1U);
  EXPECT_EQ(plan.value().size, 2_MiB);
  EXPECT_EQ(plan.value().seal, SealKind::revocable);
  EXPECT_EQ(plan.value().cache, CacheMode::write_back);
  EXPECT_EQ(plan.value().group, kAlice);
  EXPECT_EQ(plan.value().permit.rule, "p.toml:11");
}

// Promise 14: leaving a field out passes no rule about it.
TEST(PlanCreate, ASealThatIsLeftOutIsThePoolsInAllowsAndDenies) {
  const auto only_revocable = with_three_pools("[[rule]]\nany=true\nseals=[\"revocable\"]\n");
  EXPECT_THAT(verdict(*only_revocable, ask_for("dram")),
              HasSubstr("(seals = revocable, and this is sealed)"));
  EXPECT_EQ(verdict(*only_revocable, ask_for("huge")), "in huge");
  EXPECT_EQ(verdict(*only_revocable, ask_for()), "in huge") << "the first that is allowed";
  const auto no_sealed =
      with_three_pools(kAllow + std::string("[[rule]]\nany=true\neffect=\"deny\"\nseals=[\"sealed\"]\n"));
  EXPECT_THAT(verdict(*no_sealed, ask_for("dram")), HasSubstr("rule p.toml:13 denies"));
  EXPECT_EQ(verdict(*no_sealed, ask_for("huge")), "in huge");
}

TEST(PlanCreate, ASizeIsJudgedAfterItWasRounded) {
  const auto policy = with_three_pools("[[rule]]\nany=true\nmax_size=\"64K\"\n");
  EXPECT_EQ(verdict(*policy, ask_for("dram", 65536)), "in dram");
  EXPECT_THAT(verdict(*policy, ask_for("dram", 65537)), HasSubstr("(max_size = 64K, and this takes 68K)"));
  EXPECT_THAT(verdict(*policy, ask_for("huge", 4096)), HasSubstr("(max_size = 64K, and this takes 2M)"));
}

TEST(PlanCreate, ACacheModeIsJudgedAsItWillBe) {
  const auto only_uncached = with_three_pools("[[rule]]\nany=true\ncache=[\"uc\"]\n");
  Create ask = ask_for("dram");
  ask.cache = {CacheMode::uncached, false};
  EXPECT_THAT(verdict(*only_uncached, ask), HasSubstr("(cache = uc, and this is wb)"));
  const auto no_uncached =
      with_three_pools(kAllow + std::string("[[rule]]\nany=true\neffect=\"deny\"\ncache=[\"uc\"]\n"));
  EXPECT_THAT(verdict(*no_uncached, ask_for("bar")), HasSubstr("rule p.toml:13 denies"))
      << "wb was preferred, and uc is what a BAR gives";
  ask = ask_for("bar");
  ask.cache = {CacheMode::write_combining, true};
  EXPECT_EQ(verdict(*no_uncached, ask), "in bar");
}

TEST(PlanCreate, WhatIsAllowedAndCannotBeMadeIsThePoolsRefusal) {
  const auto policy = with_three_pools(kAllow);
  Create ask = ask_for("huge");
  ask.seal = SealKind::sealed;
  EXPECT_EQ(verdict(*policy, ask), "pool huge makes no sealed regions, only revocable");
  ask = ask_for("dram");
  ask.cache = {CacheMode::write_combining, true};
  EXPECT_EQ(verdict(*policy, ask), "pool dram cannot give cache mode wc; it can give wb");
  const auto none = with_three_pools("");
  EXPECT_THAT(verdict(*none, ask), HasSubstr("no rule")) << "whoever is denied learns nothing of the pool";
}

TEST(PlanCreate, WhatNoRegionCanBeIsInvalidWhateverThePolicySays) {
  const auto policy = with_three_pools(kAllow);
  const auto code = [&](const Create& ask) {
    return plan_create(*policy, alice(), ask, three_pools()).error().code;
  };
  Create ask = ask_for();
  ask.size = 0;
  EXPECT_EQ(code(ask), ErrorCode::invalid);
  ask = ask_for();
  ask.name = "/a";
  EXPECT_EQ(code(ask), ErrorCode::invalid);
  ask = ask_for();
  ask.lifetime = {LifetimeKind::ttl, 999ms};
  EXPECT_EQ(code(ask), ErrorCode::invalid);
  ask = ask_for("tape");
  EXPECT_EQ(code(ask), ErrorCode::not_found);
  ask = ask_for();
  ask.group = kDevelopers;
  EXPECT_EQ(code(ask), ErrorCode::denied);
  ask.group = kStaff;
  EXPECT_TRUE(plan_create(*policy, alice(), ask, three_pools()));
}

// ---- refusals

TEST(PlanCreate, ARefusalIsOfThePoolThatCameClosest) {
  const auto policy = with_three_pools(
      "[[rule]]\nany=true\npools=[\"dram\"]\nmax_size=\"1M\"\n"
      "[[rule]]\nuser=\"bob\"\npools=[\"huge\",\"bar\"]\n");
  EXPECT_THAT(verdict(*policy, ask_for("", 2U << 20U)), HasSubstr("in pool dram"));
}

struct Advice {
  const char* name;
  const char* rules;
  std::function<void(Create&)> change;
  const char* remedy;
};
void PrintTo(const Advice& advice, std::ostream* out) {
  *out << advice.name;
}
class WhatToAdd : public testing::TestWithParam<Advice> {};

TEST_P(WhatToAdd, IsToldWhereItHelps) {
  const auto policy = with_three_pools(GetParam().rules);
  Create ask = ask_for("", 8192);
  GetParam().change(ask);
  const auto plan = plan_create(*policy, alice(), ask, three_pools());
  ASSERT_FALSE(plan);
  EXPECT_EQ(plan.error().code, ErrorCode::denied);
  if (*GetParam().remedy == '\0') {
    EXPECT_THAT(plan.error().sentence, testing::Not(HasSubstr("; add ")));
  } else {
    EXPECT_THAT(plan.error().sentence, EndsWith(std::string("; add ") + GetParam().remedy));
  }
}

INSTANTIATE_TEST_SUITE_P(
    PlanCreate, WhatToAdd,
    testing::Values(
        Advice{"Ttl", "[[rule]]\nany=true\nmax_ttl=\"24h\"\n", [](Create&) {}, "--lifetime ttl:1d"},
        Advice{"ShorterTtl", "[[rule]]\nany=true\nmax_ttl=\"1h\"\n",
               [](Create& ask) {
                 ask.lifetime = {LifetimeKind::ttl, 2h};
               },
               "--lifetime ttl:1h"},
        Advice{"Connection", "[[rule]]\nany=true\nlifetimes=[\"connection\"]\n", [](Create&) {},
               "--lifetime connection"},
        Advice{"Size", "[[rule]]\nany=true\nmax_size=\"4K\"\n", [](Create&) {}, "--size 4K"},
        Advice{"TtlAndSize", "[[rule]]\nany=true\nmax_ttl=\"1h\"\nmax_size=\"4K\"\n", [](Create&) {},
               "--lifetime ttl:1h --size 4K"},
        Advice{"Seal", "[[rule]]\nany=true\npools=[\"dram\"]\nseals=[\"revocable\"]\n", [](Create&) {},
               "--revocable"},
        Advice{"Pool", "[[rule]]\nany=true\npools=[\"huge\"]\n", [](Create& ask) { ask.pool = "dram"; },
               "--pool huge"},
        Advice{"Rights", "[[rule]]\nany=true\nrights=[\"ro\"]\n",
               [](Create& ask) { ask.grant = Access::read_write; }, "rights ro"},
        Advice{"NothingForAName", "[[rule]]\nany=true\nnames=[\"x/**\"]\n", [](Create&) {}, ""},
        Advice{"NothingForAVerb", "[[rule]]\nany=true\nverbs=[\"open\"]\n", [](Create&) {}, ""},
        Advice{"NothingAgainstADeny",
               "[[rule]]\nany=true\nmax_ttl=\"1h\"\n[[rule]]\nany=true\neffect=\"deny\"\n", [](Create&) {},
               ""},
        Advice{
            "NothingThatADenyAwaits",
            "[[rule]]\nany=true\nmax_ttl=\"1h\"\n[[rule]]\nany=true\neffect=\"deny\"\nlifetimes=[\"ttl\"]\n",
            [](Create&) {}, ""},
        Advice{"NothingThatTheGranuleForbids", "[[rule]]\nany=true\npools=[\"huge\"]\nmax_size=\"64K\"\n",
               [](Create& ask) { ask.pool = "huge"; }, ""}),
    [](const auto& one) { return std::string(one.param.name); });

TEST(RemedyFor, ARenewAsksForLess) {
  const auto policy = load_with_pool("[[rule]]\nany=true\nmax_ttl=\"1h\"\n");
  Action action;
  action.verb = Verb::renew;
  action.name = "a";
  action.pool = "dram";
  action.lifetime = Lifetime{LifetimeKind::ttl, 2h};
  EXPECT_FALSE(policy->allows(alice(), action));
  EXPECT_EQ(remedy_for(*policy, alice(), action), "--ttl 1h");
}

// ---- what exists already

TEST(Maxima, BoundWhatIsMadeAndNotWhatExists) {
  const auto policy = load_with_pool("[[rule]]\nany=true\nmax_ttl=\"1h\"\nmax_size=\"4K\"\n");
  Action action;
  action.name = "a";
  action.pool = "dram";
  action.size = 1_MiB;
  action.lifetime = Lifetime{LifetimeKind::persistent, {}};
  for (const Verb verb : {Verb::open, Verb::list, Verb::show, Verb::revoke}) {
    action.verb = verb;
    EXPECT_TRUE(policy->allows(alice(), action)) << to_string(verb);
  }
  action.verb = Verb::create;
  EXPECT_FALSE(policy->allows(alice(), action));
}

TEST(OffersOf, RoundMemoryAndKnowThePoolsDefaults) {
  const auto policy = with_three_pools("");
  const std::vector<Offer> offers = offers_of(*policy);
  ASSERT_EQ(offers.size(), 3U);
  EXPECT_EQ(offers[0].seals.front(), SealKind::sealed);
  EXPECT_EQ(offers[0].size_for({1}, CacheMode::write_back).value(), ByteCount{4096});
  EXPECT_EQ(offers[1].size_for({1}, CacheMode::write_back).value(), 2_MiB);
  EXPECT_EQ(offers[2].cache_modes.front(), CacheMode::uncached);
}

}  // namespace
}  // namespace mapcap::policy
