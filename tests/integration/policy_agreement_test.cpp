// Promise 14: explain and the broker never disagree. Random policies and requests, each explained and then made.
#include <gtest/gtest.h>

#include <array>
#include <random>
#include <string>
#include <vector>

#include "tests/support/regions_harness.h"

namespace mapcap::test {
namespace {

using namespace std::chrono_literals;

constexpr int kPolicies = 100;
constexpr int kRequests = 60;
const std::array<std::string, 5> kNames{"a/x", "a/y", "b/z", "1000/q", "1001/q"};
constexpr std::array<std::uint32_t, 3> kUids{1000, 1001, 0};

class PolicyAgreementTest : public RegionsTest {
 protected:
  template <typename Choices>
  const auto& one_of(const Choices& choices) {
    return choices[random_() % std::size(choices)];
  }
  bool chance(unsigned percent) { return random_() % 100 < percent; }

  std::string random_rule() {
    static const std::array<const char*, 4> subjects{"any=true", "user=1000", "user=1001",
                                                     "administrator=true"};
    static const std::array<const char*, 6> names{"\"**\"",  "\"a/**\"",     "\"b/*\"",
                                                  "\"a/x\"", "\"{uid}/**\"", "\"*/q\""};
    static const std::array<const char*, 6> verbs{
        "\"create\"",           "\"open\",\"list\"",
        "\"create\",\"open\"",  "\"show\",\"list\"",
        "\"renew\",\"revoke\"", "\"list\",\"show\",\"open\",\"create\",\"renew\",\"revoke\""};
    std::string rule = std::string("[[rule]]\n") + one_of(subjects) + "\n";
    if (chance(25)) rule += "effect=\"deny\"\n";
    if (chance(60)) rule += std::string("names=[") + one_of(names) + "]\n";
    if (chance(50)) rule += std::string("verbs=[") + one_of(verbs) + "]\n";
    if (chance(15)) rule += "pools=[\"dram\"]\n";
    if (chance(20)) rule += std::string("rights=[\"") + (chance(50) ? "ro" : "rw") + "\"]\n";
    if (chance(20)) rule += std::string("lifetimes=[\"") + (chance(50) ? "ttl" : "persistent") + "\"]\n";
    if (chance(20)) rule += "max_ttl=\"1h\"\n";
    if (chance(20)) rule += "max_size=\"8K\"\n";
    if (chance(20)) rule += std::string("seals=[\"") + (chance(50) ? "sealed" : "revocable") + "\"]\n";
    if (chance(10)) rule += "cache=[\"wb\"]\n";
    return rule;
  }

  /// One that loads: rules that contradict themselves are errors.
  std::shared_ptr<const policy::Policy> random_policy() {
    for (;;) {
      std::string text = "[pool.dram]\nbacking=\"memory\"\ncapacity=\"64M\"\nconfinement=\"sealed\"\n";
      if (chance(50)) text += "[[rule]]\nany=true\n";
      const std::size_t rules = 1 + random_() % 6;
      for (std::size_t i = 0; i < rules; ++i) text += random_rule();
      if (chance(40)) text += "[[quota]]\nany=true\nregions=2\n";
      if (chance(20)) text += "[[quota]]\nuser=1000\nbytes=\"12K\"\n";
      if (chance(20)) text += "[[quota]]\ngroup=1001\npool=\"dram\"\nregions=1\n";
      auto loaded = policy::load_text(text, "policy.toml", policy::system_accounts());
      if (loaded) {
        text_ = std::move(text);
        return std::move(loaded.value());
      }
    }
  }

  schema::PolicyExplain random_request(std::uint32_t uid) {
    static const std::array<const char*, 6> verbs{"create", "open", "show", "renew", "revoke", "list"};
    schema::PolicyExplain request;
    request.uid = uid;
    request.verb = chance(40) ? "create" : one_of(verbs);
    RegionSpec& ask = request.region;
    ask.name = chance(2) ? "/no name" : one_of(kNames);
    ask.size = std::array<std::uint64_t, 4>{0, 4096, 8000, 9000}.at(chance(3) ? 0 : 1 + random_() % 3);
    if (chance(20)) ask.pool = chance(80) ? "dram" : "tape";
    ask.lifetime = chance(50) ? Lifetime{LifetimeKind::persistent, 0ns}
                              : Lifetime{LifetimeKind::ttl, chance(50) ? 30min : 2h};
    ask.mode = one_of(std::array<std::uint32_t, 4>{0600, 0644, 0666, 0400});
    if (chance(10)) ask.group = chance(50) ? uid : 4242;
    if (chance(40)) ask.seal = chance(50) ? SealKind::sealed : SealKind::revocable;
    if (chance(30)) request.rights = chance(50) ? Access::read_only : Access::read_write;
    if (chance(10)) ask.cache = {CacheMode::write_combining, chance(50)};
    if (request.verb == "renew")
      request.ttl = one_of(std::array<std::chrono::nanoseconds, 3>{30min, 2h, 500ms});
    return request;
  }

  /// What the broker answers: nothing, or why not.
  std::optional<Failure> make(const schema::PolicyExplain& request) {
    const Who who{request.uid, 1, {}};
    const RegionSpec& ask = request.region;
    const auto why = [](const auto& result) {
      return result ? std::nullopt : std::optional<Failure>(result.error());
    };
    if (request.verb == "create") return why(create(who, schema::Create{ask, request.rights}));
    if (request.verb == "open") return why(open(who, ask.name, request.rights.value_or(Access::read_only)));
    if (request.verb == "show") return why(show(who, ask.name));
    if (request.verb == "renew") return why(renew(who, ask.name, *request.ttl));
    if (request.verb == "revoke") return why(revoke(who, ask.name));
    const auto listed = list(who, {ask.name, "", 0});
    if (!listed) return listed.error();
    if (!listed.value().regions.empty()) return std::nullopt;
    return policy::no_such_region(ask.name);
  }

  /// What a revoke left is on its way out: what the next request finds must not depend on how far it is.
  void settle() {
    until([this] {
      bool settled = true;
      directory().visit_all([&](const broker::Region& region) {
        settled = settled && region.record.state == RegionState::live;
      });
      return settled;
    });
  }

  void revoke_all() {
    for (const std::string& name : kNames) {
      broker::Region* region = directory().find(name);
      if (region == nullptr) continue;
      regions().set_policy(
          policy::load_text("[pool.dram]\nbacking=\"memory\"\ncapacity=\"64M\"\nconfinement=\"sealed\"\n"
                            "[[rule]]\nany=true\n",
                            "all.toml", policy::system_accounts())
              .value());
      EXPECT_TRUE(revoke({region->record.owner, 1, {}}, name));
    }
    settle();
  }

  std::string text_;

 private:
  std::mt19937 random_{20240229};
};

TEST_F(PolicyAgreementTest, WhatIsExplainedIsWhatIsAnswered) {
  int allowed = 0;
  int refused = 0;
  for (int policy = 0; policy < kPolicies; ++policy) {
    regions().set_policy(random_policy());
    for (int i = 0; i < kRequests; ++i) {
      const std::uint32_t uid = one_of(kUids);
      const schema::PolicyExplain request = random_request(uid);
      const policy::Subject subject = policy::Subject::for_explanation(uid, uid, {}, std::to_string(uid));
      const auto told = regions().explain(subject, request);
      ASSERT_TRUE(told) << told.error().sentence;
      const std::optional<Failure> answered = make(request);
      const std::string where =
          request.verb + " " + request.region.name + " by " + std::to_string(uid) + "\n" + text_;
      ASSERT_EQ(told.value().refusal.has_value(), answered.has_value())
          << where << (answered ? answered->sentence : told.value().refusal->sentence);
      if (answered && request.verb != "list") {
        ASSERT_EQ(told.value().refusal->code, answered->code) << where;
        ASSERT_EQ(told.value().refusal->sentence, answered->sentence) << where;
      }
      ++(answered ? refused : allowed);
      if (request.verb == "revoke" || request.verb == "create") settle();
    }
    revoke_all();
  }
  EXPECT_GT(allowed, kPolicies * kRequests / 10) << "the policies allow too little to say anything";
  EXPECT_GT(refused, kPolicies * kRequests / 10);
}

}  // namespace
}  // namespace mapcap::test
