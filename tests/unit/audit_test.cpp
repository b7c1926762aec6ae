// Audit records: a flood of one principal costs a few lines and is counted rightly, no outlet holds anybody up, and no value
// can look like another field or record.
#include "broker/report/audit.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "broker/report/audit_outlets.h"
#include "broker/report/audit_text.h"

namespace mapcap::broker {
namespace {

using namespace std::chrono_literals;

class FakeOutlet final : public AuditOutlet {
 public:
  bool put(const AuditRecord& record) override {
    if (stopped) return false;
    records.push_back(record);
    return true;
  }
  bool stopped = false;
  std::vector<AuditRecord> records;
};

AuditRecord record_of(std::uint32_t uid, const std::string& verb, Verdict verdict,
                      const std::string& name = "a/b", const std::string& rule = "p.toml:7") {
  AuditRecord record;
  record.who.account = uid;
  record.who.uid = uid;
  record.who.user = "user" + std::to_string(uid);
  record.verb = verb;
  record.name = name;
  record.verdict = verdict;
  record.rule = rule;
  return record;
}

class AuditTest : public testing::Test {
 protected:
  void deny(std::uint32_t uid, std::uint64_t times) {
    for (std::uint64_t i = 0; i < times; ++i)
      audit_.note(record_of(uid, "open", Verdict::denied, "x/" + std::to_string(i)));
  }
  /// Lets that much time pass, and what is due then happen.
  void pass(Audit::Time time) {
    const Audit::Time until = now_ + time;
    while (work_ && due_ <= until) {
      now_ = due_;
      std::exchange(work_, nullptr)();
    }
    now_ = until;
  }
  /// What was told of somebody, by count.
  [[nodiscard]] std::uint64_t told_of(std::uint32_t uid) const {
    std::uint64_t sum = 0;
    for (const AuditRecord& record : outlet_.records) sum += record.who.uid == uid ? record.times : 0;
    return sum;
  }

  Audit::Time now_{1h};
  Audit::Time due_{0};
  std::function<void()> work_;
  FakeOutlet outlet_;
  Audit audit_{outlet_,
               [this](Audit::Time delay, std::function<void()> work) {
                 due_ = now_ + delay;
                 work_ = std::move(work);
               },
               [this] { return now_; }};
};

TEST_F(AuditTest, AFloodOfOnePrincipalIsAFewRecordsWithARightCountAndNobodyElsesIsMissing) {
  for (int i = 0; i < 1000; ++i) {
    deny(1, 100);
    audit_.note(record_of(2, "create", Verdict::allowed, "two/" + std::to_string(i)));
    if (i >= 90) now_ += 1s;  // Somebody else's 1,000 creates take a quarter of an hour.
  }
  pass(2min);
  EXPECT_EQ(told_of(1), 100'000U);
  EXPECT_EQ(told_of(2), 1000U);
  const auto of = [this](std::uint32_t uid) {
    return std::count_if(outlet_.records.begin(), outlet_.records.end(),
                         [uid](const AuditRecord& record) { return record.who.uid == uid; });
  };
  EXPECT_LE(of(1), 17 * 11) << "ten and a count for each minute";
  EXPECT_GE(of(2), 910) << "at once, one by one, but for the burst of the first moment";
  EXPECT_TRUE(outlet_.records.front().times == 1 && outlet_.records.front().name == "x/0");
}

TEST_F(AuditTest, ACountRepeatsTheLastOfThoseThatItCountsWhenTheMinuteIsOver) {
  deny(1, 12);
  EXPECT_EQ(outlet_.records.size(), Audit::kRefusedInFull);
  pass(Audit::kWindow - 1ns);
  EXPECT_EQ(outlet_.records.size(), Audit::kRefusedInFull);
  pass(1ns);
  ASSERT_EQ(outlet_.records.size(), Audit::kRefusedInFull + 1);
  EXPECT_EQ(outlet_.records.back().times, 2U);
  EXPECT_EQ(outlet_.records.back().name, "x/11");
  deny(1, 1);
  EXPECT_EQ(outlet_.records.back().times, 1U) << "a new minute";
}

TEST_F(AuditTest, OtherVerbsVerdictsAndRulesAreOtherKinds) {
  deny(1, 100);
  audit_.note(record_of(1, "open", Verdict::allowed));
  audit_.note(record_of(1, "open", Verdict::over_quota));
  audit_.note(record_of(1, "revoke", Verdict::denied));
  audit_.note(record_of(1, "open", Verdict::denied, "a/b", "p.toml:9"));
  EXPECT_EQ(outlet_.records.size(), Audit::kRefusedInFull + 4);
}

TEST_F(AuditTest, APrincipalHasSoManyKindsAndNoMore) {
  for (int i = 0; i < 10'000; ++i)
    audit_.note(record_of(1, "open", Verdict::denied, "a/b", "p.toml:" + std::to_string(i)));
  EXPECT_EQ(outlet_.records.size(), Audit::kKinds + Audit::kRefusedInFull);
  pass(2min);
  EXPECT_EQ(told_of(1), 10'000U);
}

TEST_F(AuditTest, AnOutletThatTakesNothingLosesNothingAsLongAsThereIsRoomAndThenSaysHowMuch) {
  outlet_.stopped = true;
  for (std::uint32_t uid = 0; uid < Audit::kWaiting + 5; ++uid)
    audit_.note(record_of(uid, "create", Verdict::allowed));
  outlet_.stopped = false;
  pass(Audit::kAskAgain);
  ASSERT_EQ(outlet_.records.size(), Audit::kWaiting + 1);
  for (std::uint32_t uid = 0; uid < Audit::kWaiting; ++uid) ASSERT_EQ(outlet_.records[uid].who.uid, uid);
  EXPECT_EQ(outlet_.records.back().verb, "audit");
  EXPECT_EQ(outlet_.records.back().times, 5U);
}

TEST_F(AuditTest, WhatWasCountedIsToldAtTheEnd) {
  deny(1, 50);
  audit_.finish();
  EXPECT_EQ(told_of(1), 50U);
}

TEST(AuditText, IsOneLineOfKeysAndValues) {
  AuditRecord record = record_of(1000, "open", Verdict::denied, "bob/secret", "/etc/mapcap/policy.toml:12");
  record.who.user = "alice";
  record.who.pid = 4711;
  record.who.program = "python3";
  record.who.unit = "session-3.scope";
  record.why = "rule /etc/mapcap/policy.toml:12 denies \"open\"";
  record.times = 3;
  EXPECT_EQ(
      as_logfmt(record),
      "verb=open verdict=denied name=bob/secret user=alice uid=1000 pid=4711 program=python3 "
      "unit=session-3.scope "
      "rule=/etc/mapcap/policy.toml:12 times=3 why=\"rule /etc/mapcap/policy.toml:12 denies \\\"open\\\"\"");
}

TEST(AuditText, NoValueLooksLikeAnotherFieldOrRecord) {
  const std::string forged = "x\" verdict=allowed user=root\nmapcapd: audit verb=create\x1b[2J\xff\\";
  AuditRecord record = record_of(1000, "open", Verdict::denied, forged);
  record.who.program = forged;
  record.who.cgroup = "/a\nMAPCAP_VERDICT=allowed";
  const std::string line = as_logfmt(record);
  EXPECT_EQ(line.find('\n'), std::string::npos);
  EXPECT_EQ(line.find('\x1b'), std::string::npos);
  EXPECT_NE(
      line.find(R"(name="x\" verdict=allowed user=root?mapcapd: audit verb=create?[2J?\\" user=user1000)"),
      std::string::npos)
      << line;
  std::string fields = as_journal_fields(record);
  EXPECT_EQ(fields.find("\nMAPCAP_VERDICT=allowed"), std::string::npos);
  EXPECT_NE(fields.find("\nMAPCAP_VERDICT=denied\n"), std::string::npos);
}

TEST(AuditText, TheLongestRecordFitsALine) {
  const std::string longest(5000, '"');
  AuditRecord record = record_of(1000, longest, Verdict::denied, longest, longest);
  record.who = {1, 1, longest, 1, longest, longest, longest, longest, longest};
  record.why = std::string(5000, 'w');
  EXPECT_LT(as_logfmt(record).size(), 8192U);
}

class JournalTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = "/tmp/mapcap-journal.XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
    path_ = directory_ + "/socket";
    journal_ = Fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path_.data(), path_.size());
    ASSERT_EQ(::bind(journal_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  }
  void TearDown() override {
    ::unlink(path_.c_str());
    ::rmdir(directory_.c_str());
  }
  std::string directory_;
  std::string path_;
  Fd journal_;
};

TEST_F(JournalTest, GetsFieldsOfItsOwn) {
  JournalAuditOutlet outlet(path_);
  ASSERT_TRUE(outlet.put(record_of(1000, "create", Verdict::allowed, "alice/a")));
  std::string text(4096, '\0');
  const ssize_t got = ::recv(journal_.get(), text.data(), text.size(), 0);
  ASSERT_GT(got, 0);
  text.resize(static_cast<std::size_t>(got));
  EXPECT_EQ(text, "MESSAGE=user1000: create alice/a: allowed (p.toml:7)\nMESSAGE_ID=" +
                      std::string(kAuditMessageId) +
                      "\nSYSLOG_IDENTIFIER=mapcapd\nPRIORITY=6\nMAPCAP_VERB=create\nMAPCAP_VERDICT=allowed\n"
                      "MAPCAP_NAME=alice/a\nMAPCAP_USER=user1000\nMAPCAP_UID=1000\nMAPCAP_RULE=p.toml:7\n");
}

TEST_F(JournalTest, OneThatIsStoppedHoldsNobodyUpAndGetsTheRestLater) {
  JournalAuditOutlet outlet(path_);
  int taken = 0;
  while (taken < 100'000 && outlet.put(record_of(1000, "create", Verdict::allowed))) ++taken;
  ASSERT_LT(taken, 100'000) << "its queue never fills";
  char byte = 0;
  while (::recv(journal_.get(), &byte, 1, 0) > 0) {
  }
  EXPECT_TRUE(outlet.put(record_of(1000, "create", Verdict::allowed)));
}

}  // namespace
}  // namespace mapcap::broker
