// /etc/subuid, and what stands in it by mistake.
#include "policy/subordinates.h"

#include <gtest/gtest.h>

#include "tests/unit/policy_test_support.h"

namespace mapcap::policy {
namespace {

TEST(SubordinatesTest, TheOwnerOfARangeStandsBehindEachOfItsUidsAndNoOther) {
  const Subordinates lent = Subordinates::parse("bob:200000:65536\nalice:100000:65536\n", fake_accounts());
  for (const std::uint32_t uid : {100'000U, 130'000U, 165'535U})
    EXPECT_EQ(lent.account_of(uid), kAlice) << uid;
  for (const std::uint32_t uid : {200'000U, 265'535U}) EXPECT_EQ(lent.account_of(uid), kBob) << uid;
  for (const std::uint32_t uid : {0U, kAlice, 99'999U, 165'536U, 199'999U, 265'536U, 4'294'967'295U})
    EXPECT_EQ(lent.account_of(uid), uid);
}

TEST(SubordinatesTest, OwnersMayBeNumbersAndHaveSeveralRanges) {
  const Subordinates lent = Subordinates::parse("7:500000:1\n7:600000:2", fake_accounts());
  EXPECT_EQ(lent.account_of(500'000), 7U);
  EXPECT_EQ(lent.account_of(500'001), 500'001U);
  EXPECT_EQ(lent.account_of(600'001), 7U);
}

/// Each piece is somebody's pod or container: neither all of them are one account, nor is each uid.
TEST(SubordinatesTest, WhatIsLentToContainersIsAnAccountForEachPiece) {
  for (const std::string owner : {"root", "0", "containers", "kubelet", "no-such-user"}) {
    const Subordinates lent = Subordinates::parse(owner + ":100000:131082\n", fake_accounts());
    for (const std::uint32_t uid : {100'000U, 100'001U, 165'535U})
      EXPECT_EQ(lent.account_of(uid), 100'000U) << owner;
    for (const std::uint32_t uid : {165'536U, 231'071U}) EXPECT_EQ(lent.account_of(uid), 165'536U) << owner;
    EXPECT_EQ(lent.account_of(231'081), 231'072U) << "what is left at the end";
    EXPECT_EQ(lent.account_of(231'082), 231'082U);
    EXPECT_EQ(lent.account_of(99'999), 99'999U);
    EXPECT_EQ(lent.lender_of(100'000), nullptr);
  }
}

TEST(SubordinatesTest, AUsersRangeWithinRootsIsHis) {
  const Subordinates lent = Subordinates::parse("root:100000:1000000\nalice:200000:65536\n", fake_accounts());
  EXPECT_EQ(lent.account_of(200'001), kAlice);
  EXPECT_EQ(lent.account_of(100'001), 100'000U);
  EXPECT_EQ(lent.account_of(300'000), 296'608U);
}

TEST(SubordinatesTest, ALenderIsToldWithHisGroups) {
  Accounts accounts = fake_accounts();
  accounts.groups_of = [](std::uint32_t uid) {
    return uid == kAlice ? std::vector<std::uint32_t>{kStaff, 7} : std::vector<std::uint32_t>();
  };
  const Subordinates lent = Subordinates::parse("alice:100000:65536\n1001:200000:65536\n", accounts);
  ASSERT_NE(lent.lender_of(100'007), nullptr);
  EXPECT_EQ(lent.lender_of(100'007)->uid, kAlice);
  EXPECT_EQ(lent.lender_of(100'007)->name, "alice");
  EXPECT_EQ(lent.lender_of(100'007)->groups, (std::vector<std::uint32_t>{7, kStaff}));
  EXPECT_EQ(lent.lender_of(200'000)->uid, kBob);
  EXPECT_EQ(lent.lender_of(kAlice), nullptr);
}

TEST(SubordinatesTest, OfRangesThatOverlapTheFirstCounts) {
  const Subordinates lent =
      Subordinates::parse("alice:100000:10\nbob:100009:10\nbob:99990:100\nbob:100010:10\n", fake_accounts());
  EXPECT_EQ(lent.account_of(100'009), kAlice);
  EXPECT_EQ(lent.account_of(99'990), 99'990U);
  EXPECT_EQ(lent.account_of(100'010), kBob);
}

TEST(SubordinatesTest, LinesThatMakeNoSenseMeanNothing) {
  const Subordinates lent = Subordinates::parse(
      "\n:\n::\nalice\nalice:\nalice:1\nalice:5:\nalice:x:9\nalice:5:9:9\nalice:-5:9\nalice:5:0\n"
      "alice:4294967295:2\n# alice:5:9\n alice:5:9\nalice:99999999999:1\nbob:5:1\n",
      fake_accounts());
  for (const std::uint32_t uid : {0U, 1U, 6U, 9U, 4'294'967'295U}) EXPECT_EQ(lent.account_of(uid), uid);
  EXPECT_EQ(lent.account_of(5), kBob) << "the line after them";
}

}  // namespace
}  // namespace mapcap::policy
