// What differs between two policies is found where they differ, and nothing is missed for that.
#include "policy/differing.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <tuple>

#include "policy/diff.h"
#include "policy/judge.h"
#include "tests/unit/policy_test_support.h"

namespace mapcap::policy {
namespace {

// ---- cost

constexpr int kUsers = 2000;  // The first one's uid.

/// `size` users with a rule of their own, and as many rules about everybody. One of those gives `verb`.
std::shared_ptr<const Policy> site(int size, const char* verb) {
  std::ostringstream text;
  for (int i = 0; i < size; ++i) {
    text << "[[rule]]\nuser = " << kUsers + i << "\nnames = [\"own/" << i
         << "/**\"]\nverbs = [\"create\", \"open\"]\n"
         << "[[rule]]\nany = true\nnames = [\"shared/" << i << "/*\", \"{user}/" << i << "\"]\nverbs = [\""
         << (i == size / 2 ? verb : "show") << "\"]\n";
  }
  return load_with_pool(text.str());
}

std::uint64_t questions(int size) {
  std::vector<Person> people;
  for (int i = 0; i < size; ++i) {
    const auto uid = static_cast<std::uint32_t>(kUsers + i);
    people.push_back({"user " + std::to_string(uid), Subject::for_explanation(uid, uid, {}, "")});
  }
  std::vector<RegionInfo> live(static_cast<std::size_t>(size));
  for (int i = 0; i < size; ++i) {
    live[static_cast<std::size_t>(i)].name = "own/" + std::to_string(i) + "/a";
    live[static_cast<std::size_t>(i)].pool = "dram";
    live[static_cast<std::size_t>(i)].mode = 0666;
  }
  const auto before = site(size, "show");
  const auto after = site(size, "create");
  DiffWork work;
  // The name that is shared and the one below his own; what they could create there.
  EXPECT_EQ(differences(*before, *after, people, {}, &work).size(), 4U * people.size());
  const std::uint64_t without_regions = work.questions;
  EXPECT_EQ(differences(*before, *after, people, live, &work).size(), 2U * people.size());
  EXPECT_LE(work.questions, without_regions) << "no live region is spoken of by what differs";
  return without_regions;
}

TEST(DiffCost, GrowsWithThePeopleAndNotWithTheRulesOfOthers) {
  const std::uint64_t of_few = questions(20);
  const std::uint64_t of_many = questions(80);
  EXPECT_EQ(of_many, 4 * of_few);
}

// ---- nothing is missed

using Told = std::set<std::tuple<std::string, bool, std::string, std::string>>;  // Whom, gains, what, name.

class RandomPolicies {
 public:
  explicit RandomPolicies(std::uint32_t seed) : random_(seed) {}

  /// Rules in another order, one or two of them other ones.
  std::pair<std::string, std::string> two() {
    std::vector<std::string> rules(pick(6) + 1);
    for (std::string& one : rules) one = rule();
    const std::string before = joined(rules);
    std::shuffle(rules.begin(), rules.end(), random_);
    for (std::size_t i = 0; i <= pick(2); ++i) {
      const std::size_t which = pick(rules.size() + 1);
      if (which == rules.size()) {
        rules.push_back(rule());
      } else {
        rules[which] = rule();
      }
    }
    return {before, joined(rules)};
  }

 private:
  std::size_t pick(std::size_t of) { return std::uniform_int_distribution<std::size_t>(0, of - 1)(random_); }
  std::string one_of(const std::vector<std::string>& words) { return words[pick(words.size())]; }
  std::string rule() {
    return "[[rule]]\n" +
           one_of({"any = true\n", "user = \"alice\"\n", "user = \"bob\"\n", "group = \"staff\"\n"}) +
           one_of({"", "", "effect = \"deny\"\n"}) +
           one_of({"", "names = [\"a/**\"]\n", "names = [\"a/b\"]\n", "names = [\"{user}/**\"]\n",
                   "names = [\"a/{user}\", \"c\"]\n"}) +
           one_of({"", "verbs = [\"open\"]\n", "verbs = [\"list\", \"show\"]\n", "verbs = [\"revoke\"]\n",
                   "verbs = [\"pools\"]\n"}) +
           one_of({"", "", "rights = [\"ro\"]\n"});
  }
  static std::string joined(const std::vector<std::string>& rules) {
    std::string text;
    for (const std::string& rule : rules) text += rule;
    return text;
  }
  std::mt19937 random_;
};

const std::vector<std::pair<std::string, Wish>>& wishes() {
  static const std::vector<std::pair<std::string, Wish>> kWishes{
      {"list", {Verb::list}},
      {"open ro", {Verb::open, Access::read_only}},
      {"open rw", {Verb::open, Access::read_write}},
      {"show", {Verb::show}},
      {"revoke", {Verb::revoke}}};
  return kWishes;
}

/// By asking both policies about everything.
Told asked(const Policy& before, const Policy& after, const std::vector<Person>& people,
           const std::vector<RegionInfo>& live) {
  Told told;
  for (const Person& person : people) {
    for (const RegionInfo& region : live) {
      const Existing existing{region.name, region.pool, region.owner, region.group, region.mode};
      for (const auto& [word, wish] : wishes()) {
        const bool was = judge(before, person.subject, existing, wish).has_value();
        const bool is = judge(after, person.subject, existing, wish).has_value();
        if (was != is) told.emplace(person.called, is, word, region.name);
      }
    }
  }
  return told;
}

Told found(const std::vector<Difference>& differences) {
  Told told;
  for (const Difference& one : differences) {
    std::istringstream words(one.what);
    for (std::string word; std::getline(words, word, ',');) {
      word.erase(0, word.find_first_not_of(' '));
      const bool compared =
          std::any_of(wishes().begin(), wishes().end(), [&](const auto& wish) { return wish.first == word; });
      if (!one.name.empty() && compared) told.emplace(one.whom, one.gains, word, one.name);
    }
  }
  return told;
}

TEST(Diff, TellsOfRegionsWhatAskingAboutEachOneTells) {
  std::vector<Person> people;
  people.push_back({"alice", alice()});
  people.push_back({"bob", bob()});
  people.push_back({"somebody", Subject::for_explanation(5000, 5000, {}, "")});
  std::vector<RegionInfo> live;
  for (const char* name : {"c", "a/b", "alice/x", "a/alice", "bob/y/z", "5000/q", "a/c", "d"}) {
    RegionInfo region;
    region.name = name;
    region.pool = "dram";
    region.owner = live.size() % 2 == 0 ? kBob : 4242;
    region.group = kStaff;
    region.mode = 0666;
    live.push_back(region);
  }
  RandomPolicies policies(7);
  std::size_t differed = 0;
  for (int i = 0; i < 200; ++i) {
    const auto [old_text, new_text] = policies.two();
    const auto before = try_load(std::string(kOnePool) + old_text);
    const auto after = try_load(std::string(kOnePool) + new_text);
    if (!before || !after) continue;  // Rules that can match nothing.
    const Told told = asked(*before.value(), *after.value(), people, live);
    differed += told.empty() ? 0U : 1U;
    EXPECT_EQ(found(differences(*before.value(), *after.value(), people, live)), told)
        << old_text << "---- and now\n"
        << new_text;
  }
  EXPECT_GT(differed, 40U);
}

TEST(Diff, SaysTheSameWhereNoDifferingRuleSpeaks) {
  const auto before =
      load_with_pool("[[rule]]\nany=true\nnames=[\"{user}/**\"]\n[[rule]]\nuser=\"bob\"\nnames=[\"b\"]\n");
  const auto after =
      load_with_pool("[[rule]]\nuser=\"bob\"\nnames=[\"b\"]\n[[rule]]\nany=true\nnames=[\"{user}/*\"]\n");
  const Differing differing(*before, *after);
  EXPECT_TRUE(differing.concerns(alice()));
  EXPECT_TRUE(differing.speaks_of(alice(), "alice/a"));
  EXPECT_FALSE(differing.speaks_of(alice(), "bob/a"));
  EXPECT_FALSE(differing.speaks_of(bob(), "b"));
  EXPECT_FALSE(differing.speaks_of_no_region(alice()));
  const std::vector<std::string> names{"bob/c/d", "alice/a", "b", "alice"};
  const NamesApart apart(differing, names);
  EXPECT_THAT(apart.of(alice()), testing::ElementsAre(1));
  EXPECT_THAT(apart.of(bob()), testing::ElementsAre(0));
}

}  // namespace
}  // namespace mapcap::policy
