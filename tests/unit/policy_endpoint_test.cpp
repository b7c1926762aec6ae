// Promise 16: an endpoint never allows more than the policy allows its maker.
#include <gmock/gmock.h>

#include <map>
#include <random>

#include "policy/endpoint.h"
#include "policy/judge.h"
#include "policy/match.h"
#include "policy/plan.h"
#include "schema/endpoint_id.h"
#include "tests/unit/policy_test_support.h"

namespace mapcap::policy {
namespace {

using testing::HasSubstr;

struct Made {
  std::vector<std::string> names{"alice/r/**"};
  std::vector<Verb> verbs{Verb::open, Verb::list};
  std::optional<Access> rights = Access::read_write;
  std::vector<std::string> pools{};
  std::vector<Label> labels{};
};

Endpoint endpoint_of(Subject::Maker maker, const Made& made) {
  Rule record;
  record.where = "endpoint r";
  record.subject.any = true;
  record.names = made.names;
  record.pools = made.pools;
  record.rights = made.rights;
  for (const Verb verb : made.verbs) record.verbs.set(static_cast<std::size_t>(verb));
  return {"r", kFirstPrincipal + 7, made.labels, record, Subject::absent(std::move(maker)), false};
}

Subject::Maker alices() {
  return {kAlice, kAlice, {kStaff}, "alice", false};
}

Subject through(const Made& made = {}, Subject::Maker maker = alices()) {
  return Subject::by_endpoint(std::make_shared<Endpoint>(endpoint_of(std::move(maker), made)));
}

std::string refusal(const Policy& policy, const Subject& subject, const Action& action) {
  const auto result = policy.authorize(subject, action);
  return result ? "allowed by " + result.value().rule : result.error().sentence;
}

constexpr const char* kOwnNames = "[[rule]]\nany=true\nnames=[\"{user}/**\"]\n";

TEST(EndpointPolicy, AllowsWhatItsRecordSaysAndItsMakerMay) {
  const auto policy = load_with_pool(kOwnNames);
  EXPECT_EQ(refusal(*policy, through(), open("alice/r/x")), "allowed by p.toml:4");
  EXPECT_THAT(
      refusal(*policy, through(), open("alice/other")),
      HasSubstr(
          "endpoint r does not allow open alice/other in pool dram: it was made with names = alice/r/**"));
  EXPECT_THAT(refusal(*policy, through({{"**"}}), open("bob/x")),
              HasSubstr("no rule allows open bob/x in pool dram to user alice, who made endpoint r"));
}

TEST(EndpointPolicy, GivesItsMakersRightsAtMost) {
  const auto policy = load_with_pool("[[rule]]\nany=true\nnames=[\"**\"]\nrights=[\"ro\"]\n");
  EXPECT_TRUE(policy->allows(through(), open("alice/r/x")));
  EXPECT_FALSE(policy->allows(through(), open("alice/r/x", Access::read_write)));
  const auto open_policy = load_with_pool("[[rule]]\nany=true\n");
  Made readers;
  readers.rights = Access::read_only;
  EXPECT_TRUE(open_policy->allows(through(readers), open("alice/r/x")));
  EXPECT_THAT(refusal(*open_policy, through(readers), open("alice/r/x", Access::read_write)),
              HasSubstr("it was made with rights = ro"));
}

TEST(EndpointPolicy, NobodyAdministersOrMakesEndpointsThroughOne) {
  const auto policy = load_with_pool("[[rule]]\nany=true\n[[rule]]\nadministrator=true\n");
  Made everything{{"**"}, {}, Access::read_write, {}, {}};
  for (std::size_t i = 0; i < kVerbs; ++i) {
    if (verbs_of_endpoints().test(i)) everything.verbs.push_back(static_cast<Verb>(i));
  }
  const Subject by = through(everything, {0, 0, {}, "root", true});
  EXPECT_FALSE(by.administrator());
  for (const Verb verb : {Verb::quota_set, Verb::endpoint}) {
    Action action;
    action.verb = verb;
    EXPECT_FALSE(policy->allows(by, action)) << to_string(verb);
  }
}

TEST(EndpointPolicy, WhatHasEndedAllowsNothing) {
  const auto policy = load_with_pool("[[rule]]\nany=true\n");
  auto endpoint = std::make_shared<Endpoint>(endpoint_of(alices(), {}));
  const Subject by = Subject::by_endpoint(endpoint);
  EXPECT_TRUE(policy->allows(by, open("alice/r/x")));
  endpoint->ended = true;
  EXPECT_THAT(refusal(*policy, by, open("alice/r/x")), HasSubstr("endpoint r does not allow open"));
}

TEST(EndpointPolicy, ADenyMeansEndpointsByGlobAndByLabel) {
  const auto policy = load_with_pool(
      "[[rule]]\nany=true\n"
      "[[rule]]\neffect=\"deny\"\nendpoint=\"r*\"\nnames=[\"alice/r/secret\"]\n"
      "[[rule]]\neffect=\"deny\"\nlabel={namespace=\"db\",tier=\"x\"}\n");
  EXPECT_THAT(refusal(*policy, through(), open("alice/r/secret")), HasSubstr("rule p.toml:6 denies"));
  EXPECT_TRUE(policy->allows(alice(), open("alice/r/secret"))) << "the maker himself is not meant";
  Made labelled;
  labelled.labels = {{"namespace", "db"}};
  EXPECT_TRUE(policy->allows(through(labelled), open("alice/r/x"))) << "not all labels";
  labelled.labels.push_back({"tier", "x"});
  EXPECT_FALSE(policy->allows(through(labelled), open("alice/r/x")));
}

TEST(EndpointPolicy, ADenyOfTheMakerReachesHisEndpoints) {
  const auto policy = load_with_pool("[[rule]]\nany=true\n[[rule]]\neffect=\"deny\"\ngroup=\"staff\"\n");
  EXPECT_FALSE(policy->allows(through(), open("alice/r/x")));
  EXPECT_TRUE(policy->allows(through({}, {kAlice, kAlice, {}, "alice", false}), open("alice/r/x")))
      << "who left the group is not meant any more";
}

TEST(EndpointPolicy, MistakesAboutEndpointsAreTold) {
  EXPECT_THAT(why_with_pool("[[rule]]\nendpoint=\"x\"\n"), HasSubstr("a rule about endpoints gives nothing"));
  EXPECT_THAT(why_with_pool("[[rule]]\neffect=\"deny\"\nendpoint=\"Big\"\n"),
              HasSubstr("matches no endpoint"));
  EXPECT_THAT(why_with_pool("[[rule]]\neffect=\"deny\"\nlabel=\"db\"\n"), HasSubstr("label takes a table"));
  EXPECT_THAT(why_with_pool("[[rule]]\neffect=\"deny\"\nlabel={x=\"a b\"}\n"), HasSubstr("1 to 63 of"));
  EXPECT_THAT(why_with_pool("[[rule]]\neffect=\"deny\"\nendpoint=\"x\"\nany=true\n"),
              HasSubstr("exactly one of"));
  EXPECT_THAT(why_with_pool("[[rule]]\nuid=3221225472\n"), HasSubstr("a number of endpoints"));
  EXPECT_EQ(why_with_pool("[[rule]]\nany=true\n[[quota]]\nendpoint=\"c-*\"\nbytes=\"1G\"\n"), "accepted");
}

TEST(EndpointId, IsAWordOfItsAlphabet) {
  for (const char* good : {"a", "reader-1", "0.x_y", "csi-0123456789abcdef"})
    EXPECT_TRUE(schema::check_endpoint_id(good)) << good;
  for (const char* bad : {"", ".", "..", "-x", "_x", "A", "a/b", "a b", "a\n"})
    EXPECT_FALSE(schema::check_endpoint_id(bad)) << bad;
  EXPECT_TRUE(schema::check_endpoint_id(std::string(64, 'a')));
  EXPECT_FALSE(schema::check_endpoint_id(std::string(65, 'a')));
}

/// Random policies, makers, endpoints and requests: few words of each, so that they meet often.
class Chance {
 public:
  explicit Chance(std::uint64_t seed) : random_(seed) {}
  bool one_in(unsigned many) { return random_() % many == 0; }
  template <typename T>
  T of(const std::vector<T>& choices) {
    return choices[random_() % choices.size()];
  }
  template <typename T>
  std::vector<T> some(const std::vector<T>& choices) {
    std::vector<T> taken;
    for (const T& one : choices) {
      if (one_in(3)) taken.push_back(one);
    }
    return taken;
  }
  template <std::size_t N>
  std::bitset<N> set() {
    std::bitset<N> set;
    if (one_in(2)) return set;
    for (std::size_t i = 0; i < N; ++i) set.set(i, one_in(2));
    return set;
  }

  Rule rule() {
    Rule rule;
    rule.where = "p";
    rule.effect = one_in(4) ? Effect::deny : Effect::allow;
    SubjectMatch& whom = rule.subject;
    switch (random_() % (rule.effect == Effect::deny ? 6 : 4)) {
      case 0:
        whom.any = true;
        break;
      case 1:
        whom.administrator = true;
        break;
      case 2:
        whom.uids = {of<std::uint32_t>({0, kAlice, kBob})};
        break;
      case 3:
        whom.gids = {of<std::uint32_t>({kStaff, kDevelopers})};
        break;
      case 4:
        whom.endpoint = of<std::string>({"r", "*", "x"});
        break;
      default:
        whom.labels = {{"namespace", of<std::string>({"db", "web"})}};
    }
    rule.names = some<std::string>({"**", "{user}/**", "alice/*", "models/**"});
    rule.pools = some<std::string>({"dram", "pmem"});
    rule.verbs = set<kVerbs>();
    if (one_in(3)) rule.rights = of<Access>({Access::read_only, Access::read_write});
    rule.cache = set<4>();
    rule.lifetimes = set<3>();
    rule.seals = set<3>();
    if (rule.effect == Effect::allow && one_in(4)) rule.max_ttl = std::chrono::hours(1);
    if (rule.effect == Effect::allow && one_in(4)) rule.max_size = ByteCount{8192};
    return rule;
  }

  Subject::Maker maker() {
    const auto uid = of<std::uint32_t>({0, kAlice, kBob});
    return {uid, uid, some<std::uint32_t>({kStaff, kDevelopers}), uid == kAlice ? "alice" : "",
            uid == 0 && one_in(2)};
  }

  Made made() {
    Made made;
    made.names = some<std::string>({"**", "alice/**", "models/**", "bob/x"});
    made.verbs.clear();
    for (std::size_t i = 0; i < kVerbs; ++i) {
      if (!one_in(3)) made.verbs.push_back(static_cast<Verb>(i));  // Also what no broker would put there.
    }
    made.pools = some<std::string>({"dram", "pmem"});
    made.rights = of<Access>({Access::read_only, Access::read_write});
    if (one_in(2)) made.labels = {{"namespace", "db"}};
    return made;
  }

  Action action() {
    static const std::vector<std::string> kNames{"", "alice/x", "bob/x", "models/a/b", "0/x"};
    Action action;
    action.verb = static_cast<Verb>(random_() % kVerbs);
    action.name = kNames[random_() % kNames.size()];
    action.pool = of<std::string_view>({"", "dram", "pmem"});
    if (one_in(2)) action.rights = of<Access>({Access::read_only, Access::read_write});
    if (one_in(2)) action.cache = static_cast<CacheMode>(random_() % 4);
    if (one_in(2))
      action.lifetime =
          Lifetime{static_cast<LifetimeKind>(random_() % 3), std::chrono::minutes(random_() % 120)};
    if (one_in(2)) action.size = ByteCount{random_() % 16384};
    if (one_in(2)) action.seal = static_cast<SealKind>(random_() % 3);
    return action;
  }

  /// Whoever's it is: also the endpoint's own, and another's.
  Existing existing() {
    Existing region;
    region.name = of<std::string_view>({"alice/x", "bob/x", "models/a/b", "0/x"});
    region.pool = of<std::string_view>({"dram", "pmem"});
    region.owner =
        of<std::uint32_t>({0, kAlice, kBob, kFirstPrincipal + 7, kFirstPrincipal + 7, kFirstPrincipal + 8});
    region.group = of<std::uint32_t>({0, kStaff, kDevelopers, kFirstPrincipal + 7});
    region.mode = of<std::uint32_t>({0600, 0640, 0604, 0644, 0060, 0666, 0});
    if (one_in(2)) region.size = ByteCount{random_() % 16384};
    if (one_in(2)) region.seal = static_cast<SealKind>(random_() % 3);
    if (one_in(2)) region.cache = static_cast<CacheMode>(random_() % 4);
    if (one_in(2)) region.lifetime = Lifetime{LifetimeKind::ttl, std::chrono::minutes(random_() % 120)};
    region.published = one_in(3);
    return region;
  }

  Wish wish() {
    Wish wish;
    wish.verb =
        of<Verb>({Verb::open, Verb::list, Verb::show, Verb::renew, Verb::revoke, Verb::publish, Verb::open});
    if (one_in(2)) wish.rights = of<Access>({Access::read_only, Access::read_write});
    if (one_in(2)) wish.ttl = std::chrono::minutes(random_() % 120);
    return wish;
  }

  schema::Create create() {
    schema::Create ask;
    ask.name = of<std::string>({"alice/x", "bob/x", "models/a/b", "0/x"});
    ask.pool = of<std::string>({"", "dram", "pmem"});
    ask.size = random_() % 16384;
    ask.lifetime = {static_cast<LifetimeKind>(random_() % 3), std::chrono::minutes(1 + random_() % 120)};
    if (one_in(3)) ask.group = of<std::uint32_t>({kAlice, kStaff, kDevelopers, kFirstPrincipal + 7});
    if (one_in(3)) ask.seal = of<SealKind>({SealKind::sealed, SealKind::revocable});
    return ask;
  }

  Policy policy() {
    Settings settings;
    for (const char* name : {"dram", "pmem"}) {
      PoolSettings pool;
      pool.name = name;
      settings.pools.push_back(std::move(pool));
    }
    for (int i = 0; i < 8; ++i) settings.rules.push_back(rule());
    return Policy(std::move(settings));
  }

 private:
  std::mt19937_64 random_;
};

TEST(EndpointPolicy, WhatIsAllowedThroughAnEndpointIsAllowedToItsMakerWithoutIt) {
  constexpr int kPolicies = 400;
  constexpr int kChains = 200;
  std::uint64_t allowed = 0;
  for (int round = 0; round < kPolicies; ++round) {
    Chance chance(static_cast<std::uint64_t>(round));
    const Policy policy = chance.policy();
    for (int chain = 0; chain < kChains; ++chain) {
      const Subject::Maker maker = chance.maker();
      const Made made = chance.made();
      const Subject by = through(made, maker);
      const Action action = chance.action();
      if (!policy.allows(by, action)) continue;
      ++allowed;
      const Subject himself = Subject::absent(maker);
      ASSERT_TRUE(policy.allows(himself, action)) << "policy " << round << ": " << describe(action);
      // And no limit of what is made is looser.
      const Permit through_it = policy.authorize(by, action).value();
      const Permit his = policy.authorize(himself, action).value();
      ASSERT_EQ(through_it.rule, his.rule);
      ASSERT_EQ(through_it.max_ttl, his.max_ttl);
      ASSERT_EQ(through_it.max_size, his.max_size);
    }
  }
  EXPECT_GT(allowed, 2000U) << "hardly a request was allowed: the chains do not meet";
}

/// With modes and owners. What the endpoint made stands for what its maker would have made himself.
TEST(EndpointPolicy, WhatItMayDoWithARegionItsMakerMayDoWithTheSameOrHisOwn) {
  std::map<Verb, std::uint64_t> allowed;
  for (int round = 0; round < 200; ++round) {
    Chance chance(static_cast<std::uint64_t>(round));
    const Policy policy = chance.policy();
    for (int chain = 0; chain < 200; ++chain) {
      const Subject::Maker maker = chance.maker();
      const Subject by = through(chance.made(), maker);
      const Subject himself = Subject::absent(maker);
      const Existing region = chance.existing();
      const Wish wish = chance.wish();
      Existing his = region;
      if (region.owner == by.uid()) his.owner = maker.uid;
      if (may_see(policy, by, region)) {
        ASSERT_TRUE(may_see(policy, himself, his)) << "policy " << round;
      }
      if (!judge(policy, by, region, wish)) continue;
      ++allowed[wish.verb];
      const auto without = judge(policy, himself, his, wish);
      ASSERT_TRUE(without) << "policy " << round << ", " << region.name << ": " << without.error().sentence;
    }
  }
  for (const Verb verb : {Verb::open, Verb::list, Verb::show, Verb::renew, Verb::revoke, Verb::publish})
    EXPECT_GT(allowed[verb], 30U) << "hardly ever allowed: " << to_string(verb);
}

TEST(EndpointPolicy, WhatItMayMakeItsMakerMayMake) {
  std::vector<Offer> offers;
  for (const char* pool : {"dram", "pmem"}) {
    offers.push_back({pool,
                      {SealKind::sealed, SealKind::revocable},
                      {CacheMode::write_back},
                      [](ByteCount asked, CacheMode) -> Result<ByteCount> { return asked; }});
  }
  std::uint64_t allowed = 0;
  for (int round = 0; round < 200; ++round) {
    Chance chance(static_cast<std::uint64_t>(round));
    const Policy policy = chance.policy();
    for (int chain = 0; chain < 60; ++chain) {
      const Subject::Maker maker = chance.maker();
      schema::Create ask = chance.create();
      const Subject by = through(chance.made(), maker);
      const auto made = plan_create(policy, by, ask, offers);
      if (!made) continue;
      ++allowed;
      ask.pool = offers.at(made.value().offer).name;
      if (ask.group == by.gid()) ask.group = maker.gid;
      const auto his = plan_create(policy, Subject::absent(maker), ask, offers);
      ASSERT_TRUE(his) << "policy " << round << ": " << his.error().sentence;
      ASSERT_EQ(his.value().size, made.value().size);
      ASSERT_EQ(his.value().permit.max_size, made.value().permit.max_size);
    }
  }
  EXPECT_GT(allowed, 150U) << "hardly a create was allowed";
}

}  // namespace
}  // namespace mapcap::policy
