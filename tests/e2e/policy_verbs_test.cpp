// reload, policy show, explain and diff with the real programs: under the sandbox, by whom they are for.
#include <gmock/gmock.h>
#include <unistd.h>

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

/// As in the file: what nobody could be held to is no limit.
TEST_F(PolicyVerbsTest, AQuotaThatWouldBindNobodyIsNotTaken) {
  struct Case {
    std::vector<std::string> of;
    const char* why;
  };
  const std::vector<Case> cases{
      {{"--user", "1000", "--connections", "1", "--pool", "dram"}, "belong to no pool and no group"},
      {{"--group", "1000", "--connections", "3"}, "belong to no pool and no group"},
      {{"--any", "--grants", "5", "--pool", "dram"}, "grants of pool dram cannot be counted"},
  };
  for (const Case& one : cases) {
    std::vector<std::string> words{"quota", "set"};
    words.insert(words.end(), one.of.begin(), one.of.end());
    const CommandResult refused = by(0, words);
    EXPECT_EQ(refused.status, 1);
    EXPECT_THAT(refused.err, HasSubstr(one.why));
  }
  EXPECT_THAT(by(0, {"quota", "--json"}).out, testing::Not(HasSubstr("\"overridden\":true")));
}

/// Opening devices and loading BPF programs under the filter of system calls, or saying why not.
TEST_F(PolicyVerbsTest, ADeviceOrLsmPoolIsAddedByAReloadOrRefusedByName) {
  const std::vector<std::string> kinds{
      "backing = \"dax-device\"\ndevices = [\"/dev/dax99.0\"]\n",
      "backing = \"dax-device\"\ndevices = [\"/dev/null\"]\n",
      "backing = \"dax-device\"\nregion = \"region99\"\n",
      "backing = \"dax-device\"\nregion = \"99\"\n",
      "backing = \"pci-bar\"\nresources = [\"/sys/bus/pci/devices/ffff:ff:1f.7/resource2\"]\n",
      "backing = \"dax-file\"\npath = \"/proc/mapcap\"\n",
      "backing = \"memory\"\ncapacity = \"64M\"\nconfinement = \"lsm\"\n",
      "backing = \"memory\"\ncapacity = \"64M\"\nsecret = true\n",
  };
  int number = 0;
  for (const std::string& keys : kinds) {
    const std::string before = by(0, {"policy", "show"}).out;
    const std::string name = "more" + std::to_string(++number);
    const std::string wanted = memory("dram", "64M") + pool(name, keys) + kRules;
    broker.set_policy(wanted);
    const CommandResult reload = by(0, {"reload"});
    if (reload.status == 0) {
      EXPECT_THAT(by(0, {"pools"}).out, HasSubstr(name)) << keys;
      EXPECT_EQ(by(0, {"create", "a/" + name, "--size", "4K", "--pool", name}).status, 0) << keys;
      EXPECT_EQ(by(0, {"revoke", "a/" + name}).status, 0) << keys;
    } else {
      EXPECT_THAT(reload.err, HasSubstr("[pool." + name + "]")) << keys;
      EXPECT_THAT(reload.err, HasSubstr("the policy from before stays in force")) << keys;
      EXPECT_EQ(by(0, {"policy", "show"}).out, before) << keys;
      EXPECT_THAT(by(0, {"pools"}).out, testing::Not(HasSubstr(name))) << keys;
    }
    EXPECT_EQ(by(0, {"create", "a/dram", "--size", "4K"}).status, 0) << "it serves on after " << keys;
    EXPECT_EQ(by(0, {"revoke", "a/dram"}).status, 0);
  }
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

// Promise 14: of an endpoint too, and not what its maker may do.
TEST(PolicyVerbsOfEndpoints, AreExplainedAsTheEndpoint) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root: it starts mapcapd";
  BrokerProcess broker(open_policy("[[rule]]\nany = true\nverbs = [\"endpoint\"]\n"));
  broker.start();
  ASSERT_EQ(mapcap(broker, {"create", "a/x", "--size", "4K", "--mode", "0644"}, 1000).status, 0);
  ASSERT_EQ(
      mapcap(broker,
             {"endpoint", "create", "readers", "--names", "a/**", "--verbs", "open", "--rights", "ro"}, 1000)
          .status,
      0);
  const std::string socket = broker.directory() + "/endpoints/@1000/readers/mapcap.sock";
  const auto through = [&](std::vector<std::string> words) {
    std::vector<std::string> command{MAPCAP_PATH, "--socket", socket, "policy",
                                     "explain",   "--broker", "--as"};
    command.insert(command.end(), words.begin(), words.end());
    return run_command(command);
  };
  const auto of_the_endpoint = [&](uid_t by, std::vector<std::string> words) {
    std::vector<std::string> command{"policy", "explain", "--broker", "--as", "endpoint:readers"};
    command.insert(command.end(), words.begin(), words.end());
    return mapcap(broker, command, by);
  };
  for (const uid_t by : {0U, 1000U}) {
    EXPECT_THAT(of_the_endpoint(by, {"open", "a/x"}).out,
                HasSubstr("allowed: open a/x in pool dram by endpoint readers"));
    EXPECT_THAT(of_the_endpoint(by, {"open", "a/x", "--rights", "rw"}).out,
                HasSubstr("it was made with rights = ro"));
    EXPECT_EQ(of_the_endpoint(by, {"revoke", "a/x"}).status, 1) << "its maker may";
  }
  EXPECT_EQ(of_the_endpoint(1001, {"open", "a/x"}).status, 1) << "not his";
  // Whatever is said of who asks: by this socket everybody is the endpoint.
  for (const char* as : {"0", "1000"}) {
    EXPECT_THAT(through({as, "open", "a/x"}).out, HasSubstr("by endpoint readers"));
    EXPECT_THAT(through({as, "open", "a/x", "--rights", "rw"}).out,
                HasSubstr("it was made with rights = ro"));
    EXPECT_EQ(through({as, "revoke", "a/x"}).status, 1);
  }
  EXPECT_THAT(mapcap(broker, {"policy", "explain", "--broker", "--as", "3221225999", "open", "a/x"}).err,
              HasSubstr("there is no endpoint with the number 3221225999"));
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
