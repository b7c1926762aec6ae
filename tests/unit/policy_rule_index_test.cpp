// What is found by subject and name is what looking at every rule finds.
#include "policy/rule_index.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <random>
#include <string>
#include <vector>

#include "policy/endpoint.h"
#include "policy/match.h"
#include "policy/policy.h"
#include "tests/support/processor_time.h"
#include "tests/unit/policy_test_support.h"

namespace mapcap::policy {
namespace {

class RandomRules {
 public:
  template <typename Choices>
  const auto& one_of(const Choices& choices) {
    return choices[random_() % std::size(choices)];
  }
  bool chance(unsigned percent) { return random_() % 100 < percent; }

  /// Few letters, so that many begin alike.
  std::string name() {
    static const std::array<const char*, 4> parts{"a", "ab", "b", "abc"};
    std::string text = one_of(parts);
    while (chance(50)) text += std::string(chance(70) ? "/" : "") + one_of(parts);
    return text;
  }

  std::string glob() {
    static const std::array<const char*, 7> ends{"/**", "*", "/*", "?", "**", "/{user}/*", ""};
    return chance(10) ? "{user}/**" : chance(5) ? "**" : name() + one_of(ends);
  }

  std::string rule() {
    static const std::array<const char*, 8> subjects{
        "any=true",        "user=\"alice\"",     "user=\"bob\"",         "group=\"staff\"",
        "uid=[1000,1001]", "administrator=true", "group=\"developers\"", "user=0"};
    static const std::array<const char*, 5> verbs{"\"open\"", "\"list\",\"show\"", "\"create\",\"reload\"",
                                                  "\"pools\"", "\"open\",\"create\",\"quota-set\""};
    std::string text = std::string("[[rule]]\n") + one_of(subjects) + "\n";
    if (chance(30)) text += "effect=\"deny\"\n";
    if (chance(70)) text += "names=[\"" + glob() + (chance(30) ? "\",\"" + glob() : "") + "\"]\n";
    if (chance(50)) text += std::string("verbs=[") + one_of(verbs) + "]\n";
    if (chance(20)) text += "rights=[\"ro\"]\n";
    if (chance(20)) text += "pools=[\"dram\"]\n";
    return text;
  }

  std::mt19937 random_{11};
};

Subject lent_by_alice() {
  Subject subject = Subject::for_explanation(200'000, 200'000, {}, "");
  subject.set_lender(
      std::make_shared<const Lender>(Lender{kAlice, "alice", std::vector<std::uint32_t>{kStaff}}));
  return subject;
}

Subject through_alices_endpoint() {
  auto endpoint = std::make_shared<Endpoint>(Endpoint{
      "e", kFirstPrincipal, {}, Rule{}, Subject::absent({kAlice, kAlice, {kStaff}, "alice", false})});
  endpoint->record.subject.any = true;
  return Subject::by_endpoint(std::move(endpoint));
}

/// By looking at every rule.
struct Plain {
  Plain(const Policy& policy, const Subject& subject, const Action& action) {
    for (const Rule& rule : policy.rules()) {
      const Part part = first_mismatch(rule, subject, action);
      if (part == Part::none) {
        const Rule*& found = rule.effect == Effect::deny ? deny : allow;
        if (found == nullptr) found = &rule;
      }
      if (rule.effect == Effect::allow && part != Part::subject) closest.emplace_back(part, &rule);
    }
    std::stable_sort(closest.begin(), closest.end(),
                     [](const auto& a, const auto& b) { return a.first > b.first; });
    if (closest.size() > 3) closest.resize(3);
  }

  const Rule* deny = nullptr;
  const Rule* allow = nullptr;
  std::vector<std::pair<Part, const Rule*>> closest;
};

TEST(RuleIndex, FindsWhatLookingAtEveryRuleFinds) {
  RandomRules random;
  std::vector<Subject> people;
  people.push_back(alice());
  people.push_back(bob());
  people.push_back(root());
  people.push_back(lent_by_alice());
  people.push_back(through_alices_endpoint());
  constexpr std::array kVerbsAsked{Verb::open, Verb::create, Verb::list, Verb::pools, Verb::reload};
  int allowed = 0;
  int refused = 0;
  for (int round = 0; round < 200; ++round) {
    std::string text(kOnePool);
    const std::size_t rules = 1 + random.random_() % 25;
    for (std::size_t i = 0; i < rules; ++i) text += random.rule();
    const auto loaded = try_load(text);
    if (!loaded) continue;  // A rule that contradicts itself.
    const Policy& policy = *loaded.value();
    for (int i = 0; i < 60; ++i) {
      const Subject& subject = random.one_of(people);
      const std::string name = random.chance(15) ? "alice/a" : random.name();
      Action action;
      action.verb = random.one_of(kVerbsAsked);
      if (!nameless(action.verb) && !(action.verb == Verb::list && random.chance(50))) action.name = name;
      if (random.chance(70)) action.pool = "dram";
      if (random.chance(50)) action.rights = random.chance(50) ? Access::read_only : Access::read_write;
      const Plain plain(policy, subject, action);
      const auto told = policy.authorize(subject, action);
      const Endpoint* endpoint = subject.endpoint();
      if (endpoint != nullptr && first_mismatch(endpoint->record, subject, action) != Part::none) {
        ASSERT_FALSE(told);
        continue;
      }
      ASSERT_EQ(told.has_value(), plain.deny == nullptr && plain.allow != nullptr)
          << text << describe(action) << " by " << subject.describe();
      ++(told ? allowed : refused);
      if (told) {
        ASSERT_EQ(told.value().rule, plain.allow->where) << text << describe(action);
      } else if (plain.deny != nullptr) {
        ASSERT_NE(told.error().sentence.find("rule " + plain.deny->where + " denies"), std::string::npos)
            << told.error().sentence << '\n'
            << text;
      } else {
        const auto closest = policy.closest_rules(subject, action);
        ASSERT_EQ(closest.size(), plain.closest.size()) << text << describe(action);
        for (std::size_t at = 0; at < closest.size(); ++at)
          ASSERT_EQ(closest[at], plain.closest[at].second) << text << describe(action);
      }
    }
  }
  EXPECT_GT(allowed, 1000);
  EXPECT_GT(refused, 1000);
}

std::shared_ptr<const Policy> policy_of(int rules) {
  std::string text(kOnePool);
  for (int i = 0; i < rules; ++i) {
    text += "[[rule]]\nany=true\nnames=[\"team-" + std::to_string(i) + "/**\"]\n" +
            (i % 10 == 0 ? "effect=\"deny\"\nrights=[\"rw\"]\n" : "verbs=[\"open\",\"create\"]\n");
  }
  const auto loaded = try_load(text);
  if (!loaded) ADD_FAILURE() << loaded.error().sentence;
  return loaded ? loaded.value() : nullptr;
}

TEST(RuleIndex, AJudgementAmongTenThousandRulesCostsWhatItCostsAmongTen) {
  const auto few = policy_of(10);
  const auto many = policy_of(10'000);
  for (const char* name : {"team-7/a", "team-8/a/b", "nobody/a"}) {
    Action action;
    action.verb = Verb::open;
    action.name = name;
    action.pool = "dram";
    action.rights = Access::read_only;
    const Subject subject = alice();
    const auto cost = [&](const Policy& policy) {
      return test::processor_time([&] {
        for (int i = 0; i < 200; ++i) (void)policy.allows(subject, action);
      });
    };
    // Looking at each would cost a thousand times as much.
    EXPECT_LT(cost(*many), cost(*few) * 20) << name;
  }
}

}  // namespace
}  // namespace mapcap::policy
