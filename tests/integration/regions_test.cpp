// What the verbs on regions keep, whom they tell, and what a list shows while regions come and go.
#include <gmock/gmock.h>

#include <algorithm>
#include <map>

#include "policy/endpoint.h"
#include "schema/codec.h"
#include "tests/support/regions_harness.h"

namespace mapcap::test {
namespace {

using namespace std::chrono_literals;
using broker::SessionId;
using schema::NoticeKind;

constexpr Lifetime kPersistent{LifetimeKind::persistent, 0ns};
constexpr Lifetime kHour{LifetimeKind::ttl, 1h};
constexpr Lifetime kConnection{LifetimeKind::connection, 0ns};

// ---- what is kept

class BookkeepingTest : public RegionsTest {};

TEST_F(BookkeepingTest, NothingStaysBehindOfRegionsThatEndedBeforeTheirTime) {  // Promise 12
  Who who;
  who.token = regions().connections().open(who.uid);
  for (int cycle = 0; cycle < 50; ++cycle) {
    ASSERT_TRUE(create(who, "a/ttl", kHour));
    ASSERT_TRUE(renew(who, "a/ttl", 2h));
    ASSERT_TRUE(create(who, "a/bound", kConnection));
    EXPECT_EQ(regions().connections().regions(), 1U);
    EXPECT_EQ(regions().expiry().pending(), 2U) << "one end and one warning";
    ASSERT_TRUE(revoke(who, "a/ttl"));
    ASSERT_TRUE(revoke(who, "a/bound"));
  }
  EXPECT_EQ(regions().expiry().pending(), 0U);
  EXPECT_EQ(regions().connections().regions(), 0U);
  EXPECT_EQ(regions().connections().bonds(), 1U) << "the connection itself";
  regions().connections().closed(who.token);
  EXPECT_EQ(regions().connections().bonds(), 0U);
  EXPECT_TRUE(until([this] { return directory().size() == 0; }));
}

TEST_F(BookkeepingTest, SessionsThatEndedAreNotWatchersForEver) {
  const Who owner;
  ASSERT_TRUE(create(owner, "a/popular", kPersistent, 0666));
  for (SessionId session = 2; session < 2000; ++session) {
    ASSERT_TRUE(open({2000, session, {}}, "a/popular"));
    sessions.ended.insert(session);
  }
  // Two sessions live at any moment.
  EXPECT_LE(directory().find("a/popular")->watchers.size(), 4U);
  ASSERT_TRUE(revoke(owner, "a/popular"));
}

// ---- who pays for what is left

class LeftoverTest : public RegionsTest {
 protected:
  static constexpr std::uint32_t kOwner = 1000;
  static constexpr std::uint32_t kReader = 2000;
  static constexpr std::uint32_t kOther = 3000;

  /// As if this user had been handed a grant that the kernel tells of.
  void hold(broker::confine::GrantId grant, std::uint32_t uid, const std::string& cgroup = "/") {
    policy::PeerLabel label;
    label.cgroup = cgroup;
    policy::name_cgroup(label);
    broker::Amount one;
    one.grants = 1;
    auto charge = quotas().reserve({uid, uid, "dram"}, one);
    ASSERT_TRUE(charge);
    directory().track(*directory().find("a/left"),
                      {grant, Access::read_only, uid, std::move(charge.value()),
                       std::make_shared<const policy::PeerLabel>(std::move(label))});
  }
  void make(SealKind seal) {
    ASSERT_TRUE(create({}, "a/left", kPersistent, 0666, seal));
    // Its descriptors are only numbers here.
    pool().held_while([this] {
      const broker::Region* left = directory().find_or_latest("a/left");
      return left != nullptr && !left->grants.empty();
    });
    ASSERT_EQ(charged(kOwner), 4096U);
  }
  std::uint64_t charged(std::uint32_t uid) {
    for (const QuotaInfo& slot : quotas().report_for(uid, {})) {
      if (slot.slot.pool == "dram") return slot.bytes;
    }
    return 0;
  }
};

TEST_F(LeftoverTest, OfARegionThatWasTakenAwayWhoStillHoldsItPaysAndItsOwnerSeesWho) {
  make(SealKind::revocable);
  hold(1, kReader);
  hold(2, kReader);
  hold(3, kOther);
  ASSERT_TRUE(revoke({}, "a/left"));
  EXPECT_EQ(charged(kOwner), 0U);
  EXPECT_EQ(charged(kReader) + charged(kOther), 4096U) << "once, whoever it is";
  const auto shown = show({}, "a/left");
  ASSERT_TRUE(shown);
  EXPECT_THAT(shown.value().holders, testing::UnorderedElementsAre(Holder{kReader, Access::read_only, 2},
                                                                   Holder{kOther, Access::read_only, 1}));
  // When one lets go the next pays.
  regions().released(1);
  regions().released(2);
  EXPECT_EQ(charged(kReader), 0U);
  EXPECT_EQ(charged(kOther), 4096U);
  EXPECT_EQ(quotas().pool_used("dram"), 4096U);
  regions().released(3);
  ASSERT_TRUE(until([this] { return directory().size() == 0; }));
  EXPECT_EQ(charged(kOther), 0U);
}

TEST_F(LeftoverTest, ItsOwnerSeesWhereItsHoldersRan) {
  const std::string container(64, 'a');
  make(SealKind::revocable);
  hold(1, kReader, "/system.slice/a.service");
  hold(2, kReader, "/system.slice/docker-" + container + ".scope");
  hold(3, kReader, "/plain\x1b[2J");
  hold(4, kReader);
  const auto shown = show({}, "a/left");
  ASSERT_TRUE(shown);
  const auto in = [](const std::string& unit, const std::string& id, const std::string& cgroup) {
    return Holder{kReader, Access::read_only, 1, "", false, unit, id, cgroup};
  };
  EXPECT_THAT(shown.value().holders,
              testing::UnorderedElementsAre(in("a.service", "", ""), in("", "aaaaaaaaaaaa", ""),
                                            in("", "", "/plain?[2J"), in("", "", "")));
  for (const broker::confine::GrantId grant : {1U, 2U, 3U, 4U}) regions().released(grant);
  ASSERT_TRUE(revoke({}, "a/left"));
}

TEST_F(LeftoverTest, AnEndpointsClientDoesNotSeeWhatElseRunsOnTheMachine) {
  make(SealKind::revocable);
  hold(1, kReader, "/system.slice/a.service");
  hold(2, kReader, "/system.slice/b.service");
  auto endpoint = std::make_shared<policy::Endpoint>(policy::Endpoint{
      "reader", policy::kFirstPrincipal, {}, {}, policy::Subject::for_explanation(kOwner, kOwner, {}, "")});
  endpoint->record.subject.any = true;
  endpoint->record.verbs = policy::usual_verbs_of_endpoints();
  const auto client = policy::Subject::by_endpoint(endpoint);
  auto shown = run(regions().show({client, 2, {}, 1}, {"a/left"}));
  ASSERT_TRUE(shown) << shown.error().sentence;
  EXPECT_THAT(std::get<RegionDetails>(shown.value().body).holders,
              testing::ElementsAre(Holder{kReader, Access::read_only, 2}));
  regions().released(1);
  regions().released(2);
  ASSERT_TRUE(revoke({}, "a/left"));
}

/// However long the names of cgroups are that somebody makes: the reply goes out.
TEST_F(LeftoverTest, HoldersTakeNoMoreThanAPacket) {
  make(SealKind::revocable);
  constexpr broker::confine::GrantId kMany = 1000;
  for (broker::confine::GrantId grant = 1; grant <= kMany; ++grant)
    hold(grant, kReader, "/" + std::to_string(grant) + std::string(300, 'x'));
  auto shown =
      run(regions().show({policy::Subject::for_explanation(kOwner, kOwner, {}, ""), 1, {}, 1}, {"a/left"}));
  ASSERT_TRUE(shown);
  EXPECT_GT(std::get<RegionDetails>(shown.value().body).holders.size(), 150U);
  const auto packet = schema::encode(schema::FromBroker(schema::Reply{1, std::move(shown.value().body)}));
  const auto read = schema::decode_from_broker(packet);
  ASSERT_TRUE(read);
  EXPECT_TRUE(std::holds_alternative<RegionDetails>(std::get<schema::Reply>(read.value()).body))
      << "it does not fit";
  for (broker::confine::GrantId grant = 1; grant <= kMany; ++grant) regions().released(grant);
  ASSERT_TRUE(revoke({}, "a/left"));
}

TEST_F(LeftoverTest, AnOwnerWhoHoldsItHimselfGoesOnPaying) {
  make(SealKind::revocable);
  hold(1, kReader);
  hold(2, kOwner);
  ASSERT_TRUE(revoke({}, "a/left"));
  EXPECT_EQ(charged(kOwner), 4096U);
  regions().released(2);
  EXPECT_EQ(charged(kOwner), 0U);
  EXPECT_EQ(charged(kReader), 4096U);
  regions().released(1);
  ASSERT_TRUE(until([this] { return directory().size() == 0; }));
}

TEST_F(LeftoverTest, ASealedRegionStaysItsOwners) {
  make(SealKind::sealed);
  hold(1, kReader);
  ASSERT_TRUE(revoke({}, "a/left"));
  EXPECT_EQ(charged(kOwner), 4096U);
  regions().released(1);
  ASSERT_TRUE(until([this] { return directory().size() == 0; }));
}

// ---- who is told

class WatchersTest : public RegionsTest {};

TEST_F(WatchersTest, WhoCreatedOrOpenedItIsToldOnceThatARegionIsRevokedAndNobodyElse) {
  const Who owner;
  ASSERT_TRUE(create(owner, "a/shared", kPersistent, 0666));
  ASSERT_TRUE(create(owner, "a/other", kPersistent, 0666));
  for (int times = 0; times < 3; ++times) ASSERT_TRUE(open({2000, 2, {}}, "a/shared"));
  ASSERT_TRUE(open({2000, 3, {}}, "a/shared"));
  ASSERT_TRUE(open({2000, 4, {}}, "a/other"));
  ASSERT_FALSE(open({2000, 5, {}}, "a/none"));
  sessions.ended.insert(3);
  ASSERT_TRUE(revoke({0, 6, {}}, "a/shared"));
  EXPECT_THAT(sessions.told, testing::UnorderedElementsAre(ToldSessions::Told(1, NoticeKind::revoked),
                                                           ToldSessions::Told(2, NoticeKind::revoked)));
  ASSERT_TRUE(revoke(owner, "a/other"));
}

TEST_F(WatchersTest, WatchersOfARevokedRegionHearNothingOfTheNextOneOfItsName) {
  const Who first{1000, 1, {}};
  const Who second{1000, 2, {}};
  ASSERT_TRUE(create(first, "a/name", kPersistent));
  ASSERT_TRUE(revoke(first, "a/name"));
  sessions.told.clear();
  ASSERT_TRUE(create(second, "a/name", kPersistent));
  ASSERT_TRUE(revoke(second, "a/name"));
  EXPECT_THAT(sessions.told, testing::ElementsAre(ToldSessions::Told(2, NoticeKind::revoked)));
}

// ---- lists

class ListTest : public RegionsTest {
 protected:
  void revoke_all(const Who& who) {
    std::vector<std::string> live;
    directory().visit_all([&](const broker::Region& region) {
      if (region.record.state == RegionState::live) live.push_back(region.record.name);
    });
    for (const std::string& one : live) EXPECT_TRUE(revoke(who, one));
  }
  static std::string name(int number) {
    const std::string digits = std::to_string(number);
    return "a/" + std::string(4 - digits.size(), '0') + digits;
  }
};

TEST_F(ListTest, WhatIsThereAllTheTimeIsListedOnceAndInOrderWhileOthersComeAndGo) {
  const Who who;
  constexpr int kCount = 120;
  for (int i = 0; i < kCount; ++i) ASSERT_TRUE(create(who, name(i * 10), kPersistent));
  std::vector<std::string> listed;
  schema::List ask;
  ask.glob = "a/*";
  ask.limit = 7;
  int page = 0;
  do {
    const auto listing = list(who, ask);
    ASSERT_TRUE(listing) << listing.error().sentence;
    for (const RegionInfo& region : listing.value().regions) listed.push_back(region.name);
    ask.cursor = listing.value().next;
    if (ask.cursor.empty()) break;
    // The one that the cursor names or the one after it, and new ones on both sides.
    const int last = std::stoi(listed.back().substr(2));
    if (page % 2 == 1) {
      ASSERT_TRUE(revoke(who, name(last)));
    } else if (last + 10 < kCount * 10) {
      ASSERT_TRUE(revoke(who, name(last + 10)));
    }
    ASSERT_TRUE(create(who, name(last + 1), kPersistent));
    ASSERT_TRUE(create(who, name(last - 1), kPersistent));
    ASSERT_LT(++page, kCount) << "the list never ends";
  } while (true);
  EXPECT_TRUE(std::is_sorted(listed.begin(), listed.end()));
  std::map<std::string, int> times;
  for (const std::string& one : listed) EXPECT_EQ(++times[one], 1) << one;
  // By now everything that is there was there when its page came, but what was made behind the cursor.
  directory().visit_all([&](const broker::Region& region) {
    const int number = std::stoi(region.record.name.substr(2));
    if (region.record.state == RegionState::live && number % 10 == 0) {
      EXPECT_EQ(times[region.record.name], 1) << region.record.name;
    }
  });
  EXPECT_GT(page, 10);
  revoke_all(who);
}

TEST_F(ListTest, CursorsThatNobodyGaveAreRefusedOrShowNoMoreThanTheCallerMaySee) {  // Promise 12
  const Who owner;
  const Who stranger{2000, 2, {}};
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(create(owner, name(i), kPersistent, i == 3 ? 0604 : 0600));
  auto ask = [](std::string cursor, std::string glob = "") {
    schema::List wanted;
    wanted.cursor = std::move(cursor);
    wanted.glob = std::move(glob);
    return wanted;
  };
  for (const std::string& cursor :
       {std::string("x"), std::string(":"), std::string("12"), std::string(":a/0001"),
        std::string("-1:a/0001"), std::string("+1:a"), std::string(" 1:a"), std::string("1 :a"),
        std::string("0x1:a"), std::string("123456789012345678901:a"), std::string(4096, '9'),
        std::string("\0001:a", 4)}) {
    const auto answer = list(stranger, ask(cursor));
    ASSERT_FALSE(answer) << cursor;
    EXPECT_EQ(answer.error().code, ErrorCode::invalid);
  }
  // Well-formed, wherever they point: before, among, between and after the regions.
  for (const std::string& cursor :
       {std::string("0:"), std::string("1:"), std::string("99999999999999999999:a/0000"),
        std::string("18446744073709551615:a/0002"), std::string("7:a/0002x"), std::string("1:\xff\xfe\0z", 6),
        "1:" + std::string(60'000, 'a'), std::string("1:a/0001:b:")}) {
    for (const char* glob : {"", "a/*", "*", "a/0003"}) {
      const auto answer = list(stranger, ask(cursor, glob));
      ASSERT_TRUE(answer) << answer.error().sentence;
      EXPECT_LE(answer.value().regions.size(), 1U);
      for (const RegionInfo& region : answer.value().regions) EXPECT_EQ(region.name, name(3));
    }
  }
  EXPECT_EQ(list(stranger, ask("0:")).value().regions.size(), 1U);
  EXPECT_TRUE(list(stranger, ask("0:b")).value().regions.empty());
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(revoke(owner, name(i)));
}

TEST_F(ListTest, ACursorNamesOnlyRegionsThatTheCallerMaySee) {
  const Who owner;
  for (int i = 0; i < 9; ++i) ASSERT_TRUE(create(owner, name(i), kPersistent, i % 4 == 0 ? 0604 : 0600));
  schema::List ask;
  ask.limit = 1;
  std::vector<std::string> seen;
  do {
    const auto listing = list({2000, 2, {}}, ask);
    ASSERT_TRUE(listing);
    for (const RegionInfo& region : listing.value().regions) seen.push_back(region.name);
    ask.cursor = listing.value().next;
    const std::string wanted = ask.cursor.empty() ? "" : ":" + seen.back();
    EXPECT_THAT(ask.cursor, testing::EndsWith(wanted));
    ASSERT_LE(seen.size(), 4U);
  } while (!ask.cursor.empty());
  EXPECT_THAT(seen, testing::ElementsAre(name(0), name(4), name(8)));
  for (int i = 0; i < 9; ++i) ASSERT_TRUE(revoke(owner, name(i)));
}

// ---- what is judged

class JudgedTest : public RegionsTest {
 protected:
  void judge_by(const std::string& rules) {
    auto loaded = policy::load_text(
        "[pool.dram]\nbacking=\"memory\"\ncapacity=\"64M\"\nconfinement=\"sealed\"\n" + rules, "policy.toml",
        policy::system_accounts());
    ASSERT_TRUE(loaded) << loaded.error().sentence;
    regions().set_policy(loaded.value());
  }
};

TEST_F(JudgedTest, ACreateByTheRecordThatWillBeWritten) {  // Promise 14
  judge_by(
      "[[rule]]\nany=true\n[[rule]]\nany=true\neffect=\"deny\"\nverbs=[\"create\"]\nseals=[\"sealed\"]\n");
  const auto sealed = create({}, "a/left-open", kPersistent);
  ASSERT_FALSE(sealed);
  EXPECT_EQ(sealed.error().code, ErrorCode::denied);
  judge_by("[[rule]]\nany=true\nmax_size=4096\n[[rule]]\nany=true\nverbs=[\"revoke\"]\n");
  ASSERT_TRUE(create({}, "a/one-page", kPersistent));
  ASSERT_TRUE(revoke({}, "a/one-page"));
}

TEST_F(JudgedTest, WhatExistsByWhatItIs) {
  ASSERT_TRUE(create({}, "a/sealed", kPersistent));
  judge_by("[[rule]]\nany=true\n[[rule]]\nany=true\neffect=\"deny\"\nverbs=[\"open\"]\nseals=[\"sealed\"]\n");
  const auto opened = open({}, "a/sealed");
  ASSERT_FALSE(opened);
  EXPECT_THAT(opened.error().sentence, testing::HasSubstr("rule policy.toml:7 denies open"));
  judge_by("[[rule]]\nany=true\nmax_ttl=\"1h\"\n");
  EXPECT_TRUE(open({}, "a/sealed")) << "max_ttl is about what is made";
  ASSERT_TRUE(revoke({}, "a/sealed"));
}

TEST_F(JudgedTest, ARefusedRenewSaysWhatWouldBeGranted) {
  judge_by("[[rule]]\nany=true\nmax_ttl=\"1h\"\n");
  ASSERT_TRUE(create({}, "a/ttl", kHour));
  const auto renewed = renew({}, "a/ttl", 2h);
  ASSERT_FALSE(renewed);
  EXPECT_THAT(renewed.error().sentence, testing::EndsWith("; ask for --ttl 1h"));
  ASSERT_TRUE(revoke({}, "a/ttl"));
}

}  // namespace
}  // namespace mapcap::test
