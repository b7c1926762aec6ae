// What `policy check` says of files with one mistake each, to the letter: policies/NAME.toml and
// NAME.expected.
#include "policy/load/verdict.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include "policy/judge.h"
#include "policy/load/document.h"
#include "policy/plan.h"
#include "tests/unit/policy_test_support.h"

namespace mapcap::policy {
namespace {

const std::filesystem::path kPolicies = MAPCAP_TEST_POLICIES;

std::string text_of(const std::filesystem::path& path) {
  std::ifstream file(path);
  EXPECT_TRUE(file) << path;
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<std::string> names() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(kPolicies)) {
    if (entry.path().extension() == ".toml") names.push_back(entry.path().stem());
  }
  std::sort(names.begin(), names.end());
  return names;
}

class PolicyVerdict : public testing::TestWithParam<std::string> {};

TEST_P(PolicyVerdict, IsThis) {
  const std::string source = GetParam() + ".toml";
  const std::string text = text_of(kPolicies / source);
  const Examined examined = examine_text(text, source, fake_accounts());
  EXPECT_EQ(verdict_on(text, source, examined), text_of(kPolicies / (GetParam() + ".expected")));
  EXPECT_EQ(examined.policy != nullptr, GetParam().starts_with("odd_"));
  EXPECT_FALSE(examined.problems.empty());
}

INSTANTIATE_TEST_SUITE_P(OfAFile, PolicyVerdict, testing::ValuesIn(names()),
                         [](const auto& one) { return one.param; });

TEST(PolicyVerdicts, TheFilesAreThere) {
  const std::vector<std::string> all = names();
  EXPECT_GE(std::count_if(all.begin(), all.end(),
                          [](const std::string& name) { return !name.starts_with("odd_"); }),
            60);
}

// What README sends an administrator to does what it says.
TEST(PolicyVerdicts, OfTheExampleOfTeamsIsThatNothingIsOdd) {
  static constexpr std::uint32_t kVision = 70;
  static constexpr std::uint32_t kSpeech = 71;
  const Accounts accounts{
      [](const std::string& name) { return name == "mallory" ? std::optional(1003U) : std::nullopt; },
      [](const std::string& name) -> std::optional<std::uint32_t> {
        if (name == "vision") return kVision;
        return name == "speech" ? std::optional(kSpeech) : std::nullopt;
      }};
  const std::string text = text_of(kPolicies / "../../../examples/teams.toml");
  const Examined examined = examine_text(text, "teams.toml", accounts);
  ASSERT_EQ(verdict_on(text, "teams.toml", examined), "teams.toml is valid: 1 pool, 6 rules, 3 quotas\n");
  const auto answer = [&](std::uint32_t uid, std::uint32_t gid, schema::Create ask) -> std::string {
    ask.size = {1U << 20U};
    const auto plan = plan_create(*examined.policy, Subject::for_explanation(uid, uid, {gid}, "somebody"),
                                  ask, offers_of(*examined.policy));
    return plan ? "allowed" : plan.error().sentence;
  };
  schema::Create model;
  model.name = "vision/model";
  model.lifetime = {LifetimeKind::persistent, {}};
  EXPECT_THAT(answer(1001, kVision, model), testing::EndsWith("; add --lifetime ttl:8h"));
  model.lifetime = {LifetimeKind::ttl, std::chrono::hours(8)};
  EXPECT_EQ(answer(1001, kVision, model), "allowed");
  EXPECT_NE(answer(1002, kSpeech, model), "allowed");
  EXPECT_THAT(answer(1003, kVision, model), testing::HasSubstr("rule teams.toml:39 denies"));
  const Subject speaker = Subject::for_explanation(1002, 1002, {kSpeech}, "speaker");
  const Existing given{"vision/public/weights", "dram", 1001, 1001, 0644};
  const Existing kept{"vision/weights", "dram", 1001, 1001, 0644};
  EXPECT_TRUE(judge(*examined.policy, speaker, given, {Verb::open, Access::read_only}));
  EXPECT_FALSE(judge(*examined.policy, speaker, given, {Verb::open, Access::read_write}));
  EXPECT_FALSE(judge(*examined.policy, speaker, kept, {Verb::open, Access::read_only}));
}

TEST(PolicyVerdicts, OfTheShippedPolicyIsThatNothingIsOdd) {
  const std::string text(default_text());
  const Examined examined = examine_text(text, "default.toml", fake_accounts());
  EXPECT_THAT(verdict_on(text, "default.toml", examined),
              testing::StartsWith("default.toml is valid: 1 pool, "));
  EXPECT_TRUE(examined.problems.empty());
}

TEST(PolicyVerdicts, AFileOfManyLinesThatAreNoTomlIsToldToAnEnd) {
  std::string text;
  for (int i = 0; i < 1000; ++i) text += "word\n";
  EXPECT_EQ(examine_text(text, "p.toml", fake_accounts()).problems.size(), kMaxSyntaxProblems);
}

}  // namespace
}  // namespace mapcap::policy
