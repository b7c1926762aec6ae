// Promise 14: every decision that matters leaves the record that docs/audit.md promises, and no others.
#include <grp.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/broker_process.h"

namespace mapcap::test {
namespace {

using namespace std::chrono_literals;
using Record = std::map<std::string, std::string>;

constexpr uid_t kAlice = 64011;
constexpr uid_t kBob = 64012;
constexpr uid_t kCarol = 64013;

/// key=value, key="value with \" and \\".
Record parse(const std::string& line) {
  Record record;
  std::size_t at = 0;
  while (at < line.size()) {
    const std::size_t equals = line.find('=', at);
    if (equals == std::string::npos) break;
    std::string& value = record[line.substr(at, equals - at)];
    at = equals + 1;
    if (at < line.size() && line[at] == '"') {
      for (++at; at < line.size() && line[at] != '"'; ++at) {
        if (line[at] == '\\') ++at;
        value += line[at];
      }
      at += 2;
    } else {
      const std::size_t end = std::min(line.find(' ', at), line.size());
      value = line.substr(at, end - at);
      at = end + 1;
    }
  }
  return record;
}

class AuditE2eTest : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root: it starts mapcapd";
    broker_.start();
  }

  [[nodiscard]] std::vector<Record> records() const {
    std::vector<Record> all;
    std::istringstream log(broker_.log());
    const std::string mark = "mapcapd: audit ";
    for (std::string line; std::getline(log, line);) {
      if (line.starts_with(mark)) all.push_back(parse(line.substr(mark.size())));
    }
    return all;
  }
  /// What everybody did, as "uid verb name verdict rule".
  [[nodiscard]] std::vector<std::string> told() const {
    std::vector<std::string> all;
    for (const Record& record : records()) {
      const auto of = [&](const char* key) { return record.contains(key) ? record.at(key) : "-"; };
      std::string rule = of("rule");
      rule = rule.substr(rule.rfind('/') + 1);
      all.push_back(of("uid") + " " + of("verb") + " " + of("name") + " " + of("verdict") + " " + rule);
    }
    return all;
  }
  CommandResult by(uid_t uid, const std::vector<std::string>& words) { return mapcap(broker_, words, uid); }

  // The expected places count its lines.
  BrokerProcess broker_{R"([broker]
max_connections_per_user = 1000
[pool.dram]
backing = "memory"
capacity = "2G"
[[rule]]
any = true
names = ["{user}/**", "public/**"]
[[rule]]
uid = 64012
effect = "deny"
names = ["public/closed"]
verbs = ["open"]
[[rule]]
any = true
verbs = ["pools", "clone"]
[[rule]]
administrator = true
[[quota]]
any = true
regions = 2
)"};
};

TEST_F(AuditE2eTest, ThreeUsersLeaveExactlyTheRecordsThatAreDocumented) {
  ASSERT_EQ(by(kAlice, {"create", "64011/a", "--size", "4K"}).status, 0);
  ASSERT_EQ(by(kAlice, {"create", "64011/b", "--size", "4K"}).status, 0);
  ASSERT_EQ(by(kAlice, {"create", "64011/c", "--size", "4K"}).status, 1);   // Over quota.
  ASSERT_EQ(by(kBob, {"create", "64011/mine", "--size", "4K"}).status, 1);  // No rule allows it.
  ASSERT_EQ(by(kCarol, {"create", "public/closed", "--size", "4K", "--mode", "0666"}).status, 0);
  ASSERT_EQ(by(kBob, {"run", "public/closed:ro", "--", "true"}).status, 1);  // A rule denies it.
  ASSERT_EQ(by(kBob, {"run", "64011/a:ro", "--", "true"}).status,
            1);  // He is not even told that it is there.
  ASSERT_EQ(by(kCarol, {"run", "public/closed:ro", "--", "true"}).status, 0);
  ASSERT_EQ(by(kAlice, {"revoke", "public/closed"}).status, 1);  // Not hers.
  ASSERT_EQ(by(kAlice, {"revoke", "64011/b"}).status, 0);
  ASSERT_EQ(by(kAlice, {"list"}).status, 0);  // Leaves none.
  ASSERT_EQ(by(kAlice, {"pools"}).status, 0);
  ASSERT_EQ(by(kAlice, {"quota"}).status, 1);  // No rule allows it.
  ASSERT_EQ(by(0, {"quota", "set", "--user", "64011", "--regions", "1"}).status, 0);
  ASSERT_EQ(by(kAlice, {"create", "64011/d", "--size", "4K"}).status, 1);  // Over what was set.
  ASSERT_EQ(by(0, {"revoke", "64011/a"}).status, 0);
  ASSERT_EQ(by(kAlice, {"renew", "64011/a", "--ttl", "1h"}).status, 1);  // There is no such region.
  EXPECT_EQ(told(), (std::vector<std::string>{
                        "64011 create 64011/a allowed policy.toml:6",
                        "64011 create 64011/b allowed policy.toml:6",
                        "64011 create 64011/c over-quota policy.toml:19",
                        "64012 create 64011/mine denied -",
                        "64013 create public/closed allowed policy.toml:6",
                        "64012 open public/closed denied policy.toml:9",
                        "64012 open 64011/a denied hidden",
                        "64013 open public/closed allowed policy.toml:6",
                        "64011 revoke public/closed denied owner",
                        "64011 revoke 64011/b allowed policy.toml:6",
                        "64011 quota - denied -",
                        "0 quota-set user 64011 allowed policy.toml:17",
                        "64011 create 64011/d over-quota quota set",
                        "0 revoke 64011/a allowed policy.toml:17",
                        "64011 renew 64011/a failed -",
                    }));
}

TEST_F(AuditE2eTest, ARecordSaysByWhichProcessOfWhichProgramAndWhy) {
  ASSERT_EQ(by(kBob, {"create", "64011/mine", "--size", "4K"}).status, 1);
  const std::vector<Record> all = records();
  ASSERT_EQ(all.size(), 1U);
  const Record& record = all.front();
  EXPECT_EQ(record.at("program"), "mapcap");
  EXPECT_GT(std::stoi(record.at("pid")), 1);
  EXPECT_EQ(record.at("user"), "64012");
  EXPECT_NE(record.at("why").find("no rule allows create 64011/mine"), std::string::npos);
}

TEST_F(AuditE2eTest, ANameCannotForgeARecord) {
  const std::string name = "x\" verdict=allowed\nmapcapd: audit verb=create user=root";
  EXPECT_EQ(by(kBob, {"show", name}).status, 1);
  as_user(kBob, [&] {
    try {
      (void)broker_.connect().open(name, Access::read_only);
    } catch (const Error&) {
    }
    return 0;
  });
  const std::vector<Record> all = records();
  ASSERT_EQ(all.size(), 1U) << broker_.log();
  EXPECT_EQ(all.front().at("verdict"), "failed");
  EXPECT_EQ(all.front().at("user"), "64012");
}

TEST_F(AuditE2eTest, AHundredThousandDenialsByOneAreAFewLinesWithARightCountAndNobodyElsesIsMissing) {
  constexpr std::uint64_t kDenials = 100'000;
  ASSERT_EQ(by(0, {"create", "public/closed", "--size", "4K", "--mode", "0666"}).status, 0);
  const pid_t flood = ::fork();
  if (flood == 0) {
    ::_exit(as_user(kBob, [&] {
      Client client = broker_.connect();
      for (std::uint64_t i = 0; i < kDenials; ++i) {
        try {
          (void)client.open("public/closed", Access::read_only);
        } catch (const Error&) {
        }
      }
      return 0;
    }));
  }
  for (int i = 0; i < 20; ++i) {
    const std::string name = "64011/" + std::to_string(i);
    ASSERT_EQ(by(kAlice, {"create", name, "--size", "4K"}).status, 0);
    ASSERT_EQ(by(kAlice, {"revoke", name}).status, 0);
  }
  int status = 0;
  ::waitpid(flood, &status, 0);
  EXPECT_EQ(status, 0);
  broker_.terminate();  // Tells what was counted, rather than in a minute.
  std::uint64_t denials = 0;
  std::size_t lines = 0;
  std::size_t alices = 0;
  for (const Record& record : records()) {
    if (record.at("uid") == "64011") ++alices;
    if (record.at("uid") != "64012") continue;
    ++lines;
    denials += record.contains("times") ? std::stoull(record.at("times")) : 1;
  }
  EXPECT_EQ(denials, kDenials);
  EXPECT_LE(lines, 11U * 10U) << "eleven a minute";
  EXPECT_EQ(alices, 40U);
}

TEST_F(AuditE2eTest, WhoIsNotLetInLeavesARecord) {
  const std::string policy = open_policy("[[quota]]\nuser = 64012\nconnections = 1\n");
  const auto line =
      1 + std::count(policy.begin(),
                     policy.begin() + static_cast<std::ptrdiff_t>(policy.find("[[quota]]\nuser = 64012")),
                     '\n');
  broker_.set_policy(policy);
  broker_.terminate();
  broker_.start();
  as_user(kBob, [&] {
    Client first = broker_.connect();
    try {
      Client second = broker_.connect();
    } catch (const Error&) {
    }
    return 0;
  });
  const std::vector<std::string> all = told();
  ASSERT_EQ(all.size(), 1U);
  EXPECT_EQ(all.front(), "64012 connect - over-quota policy.toml:" + std::to_string(line));
}

}  // namespace
}  // namespace mapcap::test
