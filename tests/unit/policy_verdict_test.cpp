// What `policy check` says of files with one mistake each, to the letter: policies/NAME.toml and
// NAME.expected.
#include "policy/load/verdict.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include "policy/load/document.h"
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
