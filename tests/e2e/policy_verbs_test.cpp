// reload, policy show, explain and diff with the real programs: under the sandbox, by whom they are for.
#include <gmock/gmock.h>

#include <fstream>

#include "tests/support/broker_process.h"

namespace mapcap::test {
namespace {

using testing::HasSubstr;

constexpr const char* kRules =
    "[[rule]]\nadministrator = true\n"
    "[[rule]]\nany = true\nnames = [\"{uid}/**\"]\nmax_ttl = \"24h\"\n";

std::string pool(const std::string& name, const std::string& keys) {
  return "[pool." + name + "]\n" + keys;
}
std::string memory(const std::string& name, const std::string& capacity) {
  return pool(name, "backing = \"memory\"\ncapacity = \"" + capacity + "\"\nconfinement = \"sealed\"\n");
}

class PolicyVerbsTest : public testing::Test {
 protected:
  void SetUp() override { broker.start(); }
  CommandResult by(uid_t uid, std::vector<std::string> words) {
    return mapcap(broker, std::move(words), uid);
  }
  BrokerProcess broker{memory("dram", "64M") + kRules};
};

TEST_F(PolicyVerbsTest, AReloadAddsAndGrowsPoolsUnderTheSandbox) {
  broker.set_policy(memory("dram", "128M") + memory("more", "64M") +
                    pool("huge",
                         "backing = \"memory\"\ncapacity = \"64M\"\nconfinement = \"sealed\"\nhuge = "
                         "\"always\"\n") +
                    kRules);
  const CommandResult reload = by(0, {"reload"});
  EXPECT_EQ(reload.status, 0) << reload.err;
  EXPECT_THAT(reload.out, HasSubstr("is in force: 3 changes"));
  EXPECT_THAT(reload.out, HasSubstr("capacity = 128M (was 64M)"));
  EXPECT_THAT(reload.out, HasSubstr("pool more"));
  EXPECT_EQ(by(0, {"create", "a/large", "--size", "100M"}).status, 0);
  EXPECT_EQ(by(0, {"create", "a/more", "--size", "1M", "--pool", "more"}).status, 0);
  EXPECT_EQ(by(0, {"create", "a/huge", "--size", "2M", "--pool", "huge"}).status, 0);
  EXPECT_THAT(broker.log(), HasSubstr("asked by user root: 3 changes"));
}

TEST_F(PolicyVerbsTest, AFileThatIsWrongIsToldToAnEndAndToTheLogAsWell) {
  broker.set_policy(memory("dram", "64M") + "[[rule]]\nany = true\nnmes = [\"a\"]\nverbs = [\"crete\"]\n");
  const CommandResult reload = by(0, {"reload"});
  EXPECT_EQ(reload.status, 1);
  EXPECT_THAT(reload.err, HasSubstr("policy.toml:7:1: error:"));
  EXPECT_THAT(reload.err, HasSubstr("policy.toml:8:10: error:"));
  EXPECT_THAT(reload.err, HasSubstr("the policy from before stays in force"));
  const CommandResult json = by(0, {"reload", "--json"});
  EXPECT_THAT(json.out, testing::StartsWith("[{\"file\":"));
  EXPECT_THAT(broker.log(), HasSubstr("policy.toml:7:1"));
  EXPECT_THAT(broker.log(), HasSubstr("policy.toml:8:10"));
  EXPECT_THAT(by(1000, {"reload"}).err, HasSubstr("no rule allows reload"));
}

TEST_F(PolicyVerbsTest, ThePolicyInForceIsShownToAdministrators) {
  const CommandResult shown = by(0, {"policy", "show"});
  EXPECT_EQ(shown.out, memory("dram", "64M") + kRules);
  EXPECT_THAT(shown.err, HasSubstr("1 pool, 2 rules, 0 quotas"));
  EXPECT_THAT(shown.err, HasSubstr(" by start; sha256 "));
  broker.set_policy("nonsense");
  EXPECT_EQ(by(0, {"policy", "show"}).out, shown.out) << "as it was loaded";
  EXPECT_EQ(by(1000, {"policy", "show"}).status, 1);
}

TEST_F(PolicyVerbsTest, ExplainAgreesWithTheBroker) {
  const CommandResult plain = by(0, {"policy", "explain", "--broker", "--as", "1000", "create", "1000/a"});
  EXPECT_EQ(plain.status, 1) << "README's own rule refuses README's own create";
  EXPECT_THAT(plain.out, HasSubstr("allowed with: --lifetime ttl:1d"));
  EXPECT_EQ(by(1000, {"create", "1000/a", "--size", "4K"}).status, 1);
  const std::vector<std::string> ask{"--size", "4K", "--lifetime", "ttl:1h"};
  std::vector<std::string> words{"policy", "explain", "--broker", "--as", "1000", "create", "1000/a"};
  words.insert(words.end(), ask.begin(), ask.end());
  const CommandResult allowed = by(1000, words);
  EXPECT_EQ(allowed.status, 0) << "about himself he may ask: " << allowed.err;
  EXPECT_THAT(allowed.out, HasSubstr("in pool dram"));
  EXPECT_EQ(by(1000, {"create", "1000/a", "--size", "4K", "--lifetime", "ttl:1h"}).status, 0);
  EXPECT_THAT(by(1000, words).out, HasSubstr("a region named 1000/a exists already"));
  EXPECT_THAT(by(1000, {"policy", "explain", "--broker", "--as", "1001", "open", "1000/a"}).err,
              HasSubstr("no rule allows policy"));
  const CommandResult hidden = by(0, {"policy", "explain", "--broker", "--as", "1001", "open", "1000/a"});
  EXPECT_THAT(hidden.out, HasSubstr("there is no region named 1000/a that you may see"));
  // And nothing in what is said of the rules tells it from one that is not there.
  std::string missing = by(0, {"policy", "explain", "--broker", "--as", "1001", "open", "1000/b"}).out;
  for (std::size_t at = 0; (at = missing.find("1000/b", at)) != std::string::npos;)
    missing.replace(at, 6, "1000/a");
  EXPECT_EQ(hidden.out, missing);
}

TEST_F(PolicyVerbsTest, ADiffNamesWhoLosesWhichRegion) {
  EXPECT_EQ(by(1000, {"create", "1000/a", "--size", "4K", "--lifetime", "ttl:1h"}).status, 0);
  const std::string before = broker.directory() + "/old.toml";
  const std::string after = broker.directory() + "/new.toml";
  std::ofstream(before) << memory("dram", "64M") << kRules;
  std::ofstream(after) << memory("dram", "64M") << "[[rule]]\nadministrator = true\n";
  const CommandResult diff = by(0, {"policy", "diff", before, after});
  EXPECT_EQ(diff.status, 0) << diff.err;
  EXPECT_THAT(diff.out, HasSubstr(": loses open ro, open rw, show, revoke, renew 1000/a"));
  EXPECT_THAT(diff.out, HasSubstr("old.toml:7 gone)"));
  EXPECT_THAT(diff.err, HasSubstr("compared 1 region"));
}

}  // namespace
}  // namespace mapcap::test
