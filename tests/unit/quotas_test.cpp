// Promise 7: quotas are never exceeded.
#include "broker/books/quotas.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <iterator>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <random>
#include <string>
#include <vector>

namespace mapcap::broker {
namespace {

using ledger::QuotaRecord;

constexpr std::uint32_t kAlice = 1001;
constexpr std::uint32_t kBob = 1002;
constexpr std::uint32_t kStaff = 50;

Amount bytes(std::uint64_t count) {
  return {count, 1, 0, 0};
}

QuotaRecord limit_bytes(SubjectKind subject, std::uint32_t id, const std::string& pool, std::uint64_t limit) {
  Limits limits;
  limits.bytes = limit;
  return {subject, id, pool, limits};
}

std::string detail(const Failure& error, const std::string& key) {
  for (const Detail& each : error.details) {
    if (each.key == key) return each.value;
  }
  return "(no " + key + ")";
}

class QuotasTest : public testing::Test {
 protected:
  QuotasTest() { quotas.add_pool("dram", 1U << 20U); }
  Result<Charge> take(std::uint32_t uid, std::uint64_t count) {
    return quotas.reserve({uid, kStaff, "dram"}, bytes(count));
  }
  Quotas quotas;
};

TEST_F(QuotasTest, TheLastByteFitsAndOneMoreDoesNot) {
  quotas.set_policy({limit_bytes(SubjectKind::user, kAlice, "dram", 4096)});
  Result<Charge> all_but_one = take(kAlice, 4095);
  ASSERT_TRUE(all_but_one);
  EXPECT_FALSE(take(kAlice, 2));
  Result<Charge> last = take(kAlice, 1);
  ASSERT_TRUE(last);
  EXPECT_FALSE(take(kAlice, 1));
}

TEST_F(QuotasTest, ARefusalNamesSlotUsedLimitAndAsked) {
  quotas.set_policy({limit_bytes(SubjectKind::user, kAlice, "dram", 4096)});
  Result<Charge> held = take(kAlice, 1000);
  ASSERT_TRUE(held);
  Result<Charge> refused = take(kAlice, 5000);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::over_quota);
  EXPECT_EQ(detail(refused.error(), "slot"), "user 1001 in pool dram");
  EXPECT_EQ(detail(refused.error(), "used"), "1000");
  EXPECT_EQ(detail(refused.error(), "limit"), "4096");
  EXPECT_EQ(detail(refused.error(), "asked"), "5000");
}

TEST_F(QuotasTest, AChargeEndsWhenItsOwnerIsDestroyedAndOnlyOnce) {
  {
    Result<Charge> held = take(kAlice, 1U << 20U);
    ASSERT_TRUE(held);
    Charge moved = std::move(held.value());
    EXPECT_EQ(quotas.pool_used("dram"), 1U << 20U);
  }
  EXPECT_EQ(quotas.pool_used("dram"), 0U);
  EXPECT_TRUE(take(kBob, 1U << 20U));
}

TEST_F(QuotasTest, AnyIsTheDefaultOfEachUserAndNotTheirSum) {
  quotas.set_policy({limit_bytes(SubjectKind::any, 0, "", 4096)});
  Result<Charge> alice = take(kAlice, 4096);
  Result<Charge> bob = take(kBob, 4096);
  EXPECT_TRUE(alice);
  EXPECT_TRUE(bob);
  EXPECT_FALSE(take(kAlice, 1));
}

TEST_F(QuotasTest, AUsersOwnSlotReplacesAny) {
  quotas.set_policy(
      {limit_bytes(SubjectKind::any, 0, "", 10), limit_bytes(SubjectKind::user, kAlice, "", 4096)});
  EXPECT_TRUE(take(kAlice, 4096));
  EXPECT_FALSE(take(kBob, 11));
}

TEST_F(QuotasTest, AGroupsMembersShareItsSlot) {
  quotas.set_policy({limit_bytes(SubjectKind::group, kStaff, "", 4096)});
  Result<Charge> alice = take(kAlice, 4000);
  ASSERT_TRUE(alice);
  Result<Charge> bob = take(kBob, 97);
  ASSERT_FALSE(bob);
  EXPECT_EQ(detail(bob.error(), "slot"), "group 50 over all pools");
  EXPECT_TRUE(take(kBob, 96));
}

TEST_F(QuotasTest, TheFirstSlotInTheDocumentedOrderIsTheOneNamed) {
  quotas.set_policy({limit_bytes(SubjectKind::user, kAlice, "dram", 1),
                     limit_bytes(SubjectKind::user, kAlice, "", 1),
                     limit_bytes(SubjectKind::group, kStaff, "dram", 1)});
  EXPECT_EQ(detail(take(kAlice, 2).error(), "slot"), "user 1001 in pool dram");
  quotas.set_policy(
      {limit_bytes(SubjectKind::user, kAlice, "", 1), limit_bytes(SubjectKind::group, kStaff, "dram", 1)});
  EXPECT_EQ(detail(take(kAlice, 2).error(), "slot"), "user 1001 over all pools");
}

TEST_F(QuotasTest, ThePoolsCapacityIsAskedLastAndHasItsOwnCode) {
  Result<Charge> refused = take(kAlice, (1U << 20U) + 1);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::pool_full);
  EXPECT_TRUE(take(kAlice, 1U << 20U));
}

TEST_F(QuotasTest, AnOverrideReplacesThePolicyUntilItIsCleared) {
  quotas.set_policy({limit_bytes(SubjectKind::user, kAlice, "dram", 4096)});
  quotas.set_override(limit_bytes(SubjectKind::user, kAlice, "dram", 10));
  EXPECT_FALSE(take(kAlice, 11));
  EXPECT_TRUE(quotas.clear_override(SubjectKind::user, kAlice, "dram"));
  EXPECT_FALSE(quotas.clear_override(SubjectKind::user, kAlice, "dram"));
  EXPECT_TRUE(take(kAlice, 11));
}

TEST_F(QuotasTest, ASmallerLimitTakesNothingAwayButRefusesUntilUsageHasFallen) {
  Result<Charge> big = take(kAlice, 4096);
  Result<Charge> small = take(kAlice, 10);
  ASSERT_TRUE(big && small);
  quotas.set_policy({limit_bytes(SubjectKind::user, kAlice, "dram", 100)});
  EXPECT_EQ(quotas.pool_used("dram"), 4106U);
  EXPECT_FALSE(take(kAlice, 1));
  big.value().end();
  EXPECT_TRUE(take(kAlice, 90));
}

TEST_F(QuotasTest, NearlyTwoToThe64AskedDoesNotWrapAround) {
  quotas.set_policy({limit_bytes(SubjectKind::user, kAlice, "dram", ~0ULL)});
  Result<Charge> held = take(kAlice, 4096);
  ASSERT_TRUE(held);
  EXPECT_FALSE(take(kAlice, ~0ULL - 100));
}

TEST_F(QuotasTest, WhatARecordSaysIsRestoredEvenAboveALimit) {
  quotas.set_policy({limit_bytes(SubjectKind::user, kAlice, "dram", 10)});
  Charge restored = quotas.restore({kAlice, kStaff, "dram"}, bytes(4096));
  EXPECT_EQ(quotas.pool_used("dram"), 4096U);
  EXPECT_FALSE(take(kAlice, 1));
}

TEST_F(QuotasTest, GrantsAndConnectionsHaveLimitsOfTheirOwn) {
  Limits limits;
  limits.connections = 1;
  limits.grants = 2;
  quotas.set_policy({{SubjectKind::any, 0, "", limits}});
  Amount connection;
  connection.connections = 1;
  Result<Charge> first = quotas.reserve({kAlice, kStaff, ""}, connection);
  EXPECT_TRUE(first);
  EXPECT_FALSE(quotas.reserve({kAlice, kStaff, ""}, connection));
  Amount grants;
  grants.grants = 2;
  Result<Charge> two = quotas.reserve({kAlice, kStaff, "dram"}, grants);
  EXPECT_TRUE(two);
  grants.grants = 1;
  EXPECT_FALSE(quotas.reserve({kAlice, kStaff, "dram"}, grants));
}

TEST_F(QuotasTest, SubordinateUidsShareWhatTheirOwnerMayTake) {
  const policy::Accounts nobody{[](const std::string&) { return std::nullopt; }, {}};
  quotas.set_subordinates(policy::Subordinates::parse("1001:100000:65536\n", nobody));
  quotas.set_policy({limit_bytes(SubjectKind::any, 0, "", 4096)});
  Result<Charge> held = take(100'000, 2000);
  ASSERT_TRUE(held);
  Result<Charge> kept = take(165'535, 2000);
  ASSERT_TRUE(kept);
  EXPECT_FALSE(take(130'000, 97));
  EXPECT_TRUE(take(165'536, 4096)) << "nobody lent that uid";
  EXPECT_EQ(quotas.report_for(100'001, {}).front().bytes, 4000U);
  EXPECT_EQ(take(130'000, 97).error().sentence.find("user 1001, to whom /etc/subuid lends uid 130000,"),
            std::string("the bytes limit of ").size());
}

TEST_F(QuotasTest, ChargesGoWithTheirUidWhenItIsLentAndWhenItIsNotAnyMore) {
  const policy::Accounts nobody{[](const std::string&) { return std::nullopt; }, {}};
  quotas.set_policy({limit_bytes(SubjectKind::any, 0, "", 4096)});
  Result<Charge> held = take(100'000, 3000);
  Result<Charge> other = take(100'001, 3000);
  EXPECT_EQ(quotas.set_subordinates(policy::Subordinates::parse("1001:100000:65536\n", nobody)), 2U);
  EXPECT_EQ(quotas.report_for(1001, {}).front().bytes, 6000U)
      << "more than the limit, and nothing is taken away";
  EXPECT_FALSE(take(1001, 1)) << "what was taken before the range was lent counts for whom it is lent to";
  held.value().end();
  EXPECT_EQ(quotas.report_for(1001, {}).front().bytes, 3000U);
  EXPECT_EQ(quotas.set_subordinates({}), 1U);
  EXPECT_EQ(quotas.report_for(100'001, {}).front().bytes, 3000U);
  EXPECT_TRUE(take(1001, 4096));
  EXPECT_EQ(quotas.set_subordinates({}), 0U);
}

// Or a member would have the group's limit as often as he has lent uids.
TEST_F(QuotasTest, ALentUidCountsInTheGroupsOfWhomItWasLentBy) {
  const policy::Accounts accounts{[](const std::string&) { return std::nullopt; },
                                  {},
                                  [](std::uint32_t uid) {
                                    return uid == kAlice ? std::vector<std::uint32_t>{kStaff}
                                                         : std::vector<std::uint32_t>{};
                                  }};
  // As a process with such a uid has it: in no group that anybody knows.
  const auto take_lent = [&](std::uint32_t uid, std::uint64_t count) {
    return quotas.reserve({uid, uid, "dram"}, bytes(count));
  };
  quotas.set_policy({limit_bytes(SubjectKind::group, kStaff, "", 4096)});
  Result<Charge> before = take_lent(100'000, 1000);
  EXPECT_EQ(quotas.set_subordinates(policy::Subordinates::parse("1001:100000:65536\n", accounts)), 1U);
  Result<Charge> lent = take_lent(100'007, 2000);
  ASSERT_TRUE(lent);
  Result<Charge> own = quotas.reserve({kAlice, kStaff, "dram"}, bytes(1096));
  ASSERT_TRUE(own);
  EXPECT_EQ(detail(take_lent(100'008, 1).error(), "slot"), "group 50 over all pools");
  EXPECT_EQ(quotas.report_for(100'008, {}).back().bytes, 4096U) << "whoever is bound can see it";
  // Nobody's charge is lost on the way when the range goes to somebody who is in no group, and back.
  EXPECT_EQ(quotas.set_subordinates(policy::Subordinates::parse("1002:100000:65536\n", accounts)), 2U);
  EXPECT_FALSE(quotas.reserve({kAlice, kStaff, "dram"}, bytes(3001)));
  EXPECT_TRUE(quotas.reserve({kAlice, kStaff, "dram"}, bytes(3000)));
  EXPECT_EQ(quotas.set_subordinates(policy::Subordinates::parse("1001:100000:65536\n", accounts)), 2U);
  EXPECT_FALSE(quotas.reserve({kAlice, kStaff, "dram"}, bytes(1)));
  before.value().end();
  lent.value().end();
  EXPECT_TRUE(quotas.reserve({kAlice, kStaff, "dram"}, bytes(3000)));
}

TEST_F(QuotasTest, AGroupBindsItsMembersWhateverGroupComesFirst) {
  quotas.set_policy({limit_bytes(SubjectKind::group, kStaff, "dram", 4096)});
  quotas.name_group(kStaff, "staff");
  const auto member =
      std::make_shared<const std::vector<std::uint32_t>>(std::vector<std::uint32_t>{7, kStaff, 90});
  Result<Charge> alice = quotas.reserve({kAlice, member, "dram", "alice"}, bytes(4000));
  ASSERT_TRUE(alice);
  const Result<Charge> bob = quotas.reserve({kBob, member, "dram", "bob"}, bytes(97));
  ASSERT_FALSE(bob);
  EXPECT_EQ(detail(bob.error(), "slot"), "group staff in pool dram");
  EXPECT_TRUE(quotas.reserve({kBob, 7, "dram"}, bytes(97))) << "he left the group";
  alice.value().end();
  EXPECT_TRUE(quotas.reserve({kBob, member, "dram", "bob"}, bytes(4096)));
}

TEST_F(QuotasTest, AGroupsFirstLimitCountsWhatItsMembersHaveAlready) {
  const auto member =
      std::make_shared<const std::vector<std::uint32_t>>(std::vector<std::uint32_t>{7, kStaff});
  Result<Charge> held = quotas.reserve({kAlice, member, "dram"}, bytes(4000));
  ASSERT_TRUE(held);
  quotas.set_override(limit_bytes(SubjectKind::group, kStaff, "dram", 4096));
  EXPECT_FALSE(quotas.reserve({kBob, member, "dram"}, bytes(97)));
  EXPECT_TRUE(quotas.clear_override(SubjectKind::group, kStaff, "dram"));
  quotas.set_policy({limit_bytes(SubjectKind::group, kStaff, "", 4096)});
  EXPECT_FALSE(quotas.reserve({kBob, member, "dram"}, bytes(97)));
  held.value().end();
  EXPECT_TRUE(quotas.reserve({kBob, member, "dram"}, bytes(97)));
}

TEST_F(QuotasTest, ARestoredChargeFallsIntoTheGroupsThatItsUserHasNow) {
  quotas.set_policy({limit_bytes(SubjectKind::group, kStaff, "", 4096)});
  quotas.set_memberships([](std::uint32_t uid) {
    return uid == kAlice ? std::vector<std::uint32_t>{kStaff} : std::vector<std::uint32_t>();
  });
  const Charge alice = quotas.restore({kAlice, 7, "dram"}, bytes(4000));
  const Charge bob = quotas.restore({kBob, 7, "dram"}, bytes(4000));
  quotas.set_memberships({});
  EXPECT_EQ(quotas.report_for(1, {kStaff}).front().bytes, 4000U);
}

TEST_F(QuotasTest, AnOverrideChangesWhatItNamesAndKeepsTheRest) {
  Limits common;
  common.regions = 1;
  common.bytes = 100;
  quotas.set_policy({{SubjectKind::any, 0, "", common}});
  quotas.set_override(limit_bytes(SubjectKind::any, 0, "", 4096));
  Result<Charge> first = take(kAlice, 4096);
  ASSERT_TRUE(first);
  EXPECT_EQ(detail(take(kAlice, 0).error(), "what"), "regions");
  // A user's own override lies over what holds for any user.
  Limits more;
  more.regions = kUnlimited;
  quotas.set_override({SubjectKind::user, kAlice, "", more});
  EXPECT_EQ(detail(take(kAlice, 1).error(), "what"), "bytes");
  EXPECT_TRUE(take(kAlice, 0));
  EXPECT_EQ(quotas.report_for(kAlice, {}).front().limits.regions, std::nullopt);
  EXPECT_EQ(quotas.report_for(kAlice, {}).front().limits.bytes, 4096U);
}

TEST_F(QuotasTest, ARefusalSaysWhoAndWhatToDo) {
  quotas.set_policy({{SubjectKind::any, 0, "", {1, 1, 1, 0}}});
  Amount connection;
  connection.connections = 1;
  const auto refused = quotas.reserve({kAlice, kStaff, ""}, connection);
  EXPECT_NE(refused.error().sentence.find("close some"), std::string::npos) << refused.error().sentence;
  const auto none = std::make_shared<const std::vector<std::uint32_t>>();
  EXPECT_EQ(detail(quotas.reserve({kAlice, none, "dram", "alice"}, bytes(2)).error(), "slot"),
            "user alice over all pools");
}

/// Whoever keeps books in the simplest way there is: all charges in a list, sums made when they are asked
/// for.
class Model {
 public:
  using Groups = std::vector<std::uint32_t>;
  struct Held {
    std::uint32_t uid;
    Groups groups;
    std::uint64_t bytes;
  };
  std::map<std::uint32_t, std::uint64_t> of_user, of_group;
  std::optional<std::uint64_t> of_any;
  std::uint64_t capacity = 1U << 20U;
  std::map<int, Held> held;

  [[nodiscard]] bool fits(std::uint32_t uid, const Groups& groups, std::uint64_t bytes) const {
    std::uint64_t user = 0;
    std::uint64_t all = 0;
    std::map<std::uint32_t, std::uint64_t> group;
    for (const auto& [id, one] : held) {
      all += one.bytes;
      user += one.uid == uid ? one.bytes : 0;
      for (const std::uint32_t gid : one.groups) group[gid] += one.bytes;
    }
    const auto own = of_user.find(uid);
    const std::optional<std::uint64_t> limit = own != of_user.end() ? std::optional(own->second) : of_any;
    if (limit && user + bytes > *limit) return false;
    for (const std::uint32_t gid : groups) {
      const auto bound = of_group.find(gid);
      if (bound != of_group.end() && group[gid] + bytes > bound->second) return false;
    }
    return all + bytes <= capacity;
  }
};

TEST_F(QuotasTest, AgreesWithASimpleModelOverThousandsOfStepsWithMembershipsThatChange) {
  std::mt19937 random(20240607);  // NOLINT(cert-msc51-cpp): the same steps each time
  const auto below = [&](std::uint32_t bound) { return static_cast<std::uint32_t>(random() % bound); };
  Model model;
  std::map<int, Charge> charges;
  std::vector<QuotaRecord> policy;
  int refused = 0;
  for (int step = 0; step < 20'000; ++step) {
    if (step % 100 == 0) {
      policy.clear();
      model.of_user.clear();
      model.of_group.clear();
      model.of_any.reset();
      for (std::uint32_t id = 0; id < 4; ++id) {
        if (below(2) == 0)
          policy.push_back(limit_bytes(SubjectKind::user, 1000 + id, "dram", below(300'000)));
        if (below(2) == 0) policy.push_back(limit_bytes(SubjectKind::group, 50 + id, "dram", below(400'000)));
      }
      if (below(2) == 0) policy.push_back(limit_bytes(SubjectKind::any, 0, "dram", below(200'000)));
      for (const QuotaRecord& one : policy) {
        if (one.subject == SubjectKind::user) model.of_user[one.id] = *one.limits.bytes;
        if (one.subject == SubjectKind::group) model.of_group[one.id] = *one.limits.bytes;
        if (one.subject == SubjectKind::any) model.of_any = *one.limits.bytes;
      }
      quotas.set_policy(policy);
    }
    if (below(3) == 0 && !charges.empty()) {
      const auto gone = std::next(charges.begin(), below(static_cast<std::uint32_t>(charges.size())));
      model.held.erase(gone->first);
      charges.erase(gone);
      continue;
    }
    const std::uint32_t uid = 1000 + below(6);
    Model::Groups groups;
    for (std::uint32_t gid = 50; gid < 56; ++gid) {
      if (below(3) == 0) groups.push_back(gid);
    }
    const std::uint64_t want = below(60'000);
    const bool fits = model.fits(uid, groups, want);
    auto charge = quotas.reserve({uid, std::make_shared<const Model::Groups>(groups), "dram"}, bytes(want));
    ASSERT_EQ(charge.has_value(), fits) << "step " << step;
    refused += fits ? 0 : 1;
    if (!charge) continue;
    charges.emplace(step, std::move(charge.value()));
    model.held[step] = {uid, groups, want};
  }
  EXPECT_GT(refused, 1000) << "limits that never bind show nothing";
  EXPECT_LT(refused, 19'000);
}

TEST_F(QuotasTest, AReportShowsUsageAndWhereALimitComesFrom) {
  quotas.set_policy({limit_bytes(SubjectKind::any, 0, "", 4096)});
  quotas.set_override(limit_bytes(SubjectKind::user, kAlice, "dram", 2048));
  Result<Charge> held = take(kAlice, 1000);
  ASSERT_TRUE(held);
  std::vector<QuotaInfo> report = quotas.report_for(kAlice, {});
  ASSERT_EQ(report.size(), 2U);
  EXPECT_EQ(report[0].slot.pool, "");
  EXPECT_EQ(report[0].limits.bytes, 4096U);
  EXPECT_FALSE(report[0].overridden);
  EXPECT_EQ(report[1].slot.pool, "dram");
  EXPECT_EQ(report[1].bytes, 1000U);
  EXPECT_EQ(report[1].limits.bytes, 2048U);
  EXPECT_TRUE(report[1].overridden);
}

TEST_F(QuotasTest, OfManyGroupsThoseAreReportedThatHaveSomethingToTell) {
  constexpr std::uint32_t kLimited = 4000;
  quotas.set_override(limit_bytes(SubjectKind::group, kLimited, "dram", 1U << 19U));
  auto charge = take(kAlice, 4096);
  const std::vector<QuotaInfo> expected = quotas.report_for(kAlice, {kStaff, kLimited});
  std::vector<std::uint32_t> groups(65'536);
  std::iota(groups.begin(), groups.end(), 0);
  EXPECT_EQ(quotas.report_for(kAlice, groups), expected);
  EXPECT_GE(expected.size(), 3U);
}

}  // namespace
}  // namespace mapcap::broker
