// Promise 7: quotas are never exceeded.
#include "broker/books/quotas.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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
  // A charge ends where it was made, whatever the file says by then.
  quotas.set_subordinates({});
  held.value().end();
  EXPECT_EQ(quotas.report_for(1001, {}).front().bytes, 2000U);
  const Charge restored = quotas.restore({100'000, kStaff, "dram"}, bytes(7));
  EXPECT_EQ(quotas.report_for(100'000, {}).front().bytes, 7U);
}

TEST_F(QuotasTest, AReportShowsUsageAndWhereALimitComesFrom) {
  quotas.set_policy({limit_bytes(SubjectKind::any, 0, "", 4096)});
  quotas.set_override(limit_bytes(SubjectKind::user, kAlice, "dram", 2048));
  Result<Charge> held = take(kAlice, 1000);
  ASSERT_TRUE(held);
  std::vector<schema::QuotaInfo> report = quotas.report_for(kAlice, {});
  ASSERT_EQ(report.size(), 2U);
  EXPECT_EQ(report[0].pool, "");
  EXPECT_EQ(report[0].limits.bytes, 4096U);
  EXPECT_FALSE(report[0].overridden);
  EXPECT_EQ(report[1].pool, "dram");
  EXPECT_EQ(report[1].bytes, 1000U);
  EXPECT_EQ(report[1].limits.bytes, 2048U);
  EXPECT_TRUE(report[1].overridden);
}

}  // namespace
}  // namespace mapcap::broker
