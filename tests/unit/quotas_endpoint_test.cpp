// Promise 16: what an endpoint is charged with counts for its maker too, so nobody has more by making them.
#include <gtest/gtest.h>

#include "broker/books/quotas.h"
#include "policy/endpoint.h"

namespace mapcap::broker {
namespace {

using ledger::QuotaRecord;

constexpr std::uint32_t kAlice = 1001;
constexpr std::uint32_t kStaff = 50;
constexpr std::uint32_t kFirst = policy::kFirstPrincipal + 1;
constexpr std::uint32_t kSecond = policy::kFirstPrincipal + 2;

std::string slot_of(const Failure& error) {
  for (const Detail& detail : error.details) {
    if (detail.key == "slot") return detail.value;
  }
  return error.sentence;
}

class EndpointQuotas : public testing::Test {
 protected:
  EndpointQuotas() {
    quotas.add_pool("dram", 1U << 20U);
    know(kFirst, "first");
    know(kSecond, "second");
  }
  void know(std::uint32_t principal, const std::string& id,
            std::optional<std::uint64_t> bytes = std::nullopt) {
    Limits limits;
    limits.bytes = bytes;
    quotas.know_endpoint(
        principal,
        {id, kAlice, "alice", std::make_shared<const std::vector<std::uint32_t>>(1, kStaff), {{"", limits}}});
  }
  Result<Charge> take(std::uint32_t uid, std::uint64_t count) {
    return quotas.reserve({uid, uid, "dram"}, {count, 1, 0, 0});
  }
  void limit(SubjectKind subject, std::uint32_t id, std::uint64_t bytes) {
    Limits limits;
    limits.bytes = bytes;
    policy_.push_back({subject, id, "", limits});
    quotas.set_policy(policy_);
  }
  Quotas quotas;

 private:
  std::vector<QuotaRecord> policy_;
};

TEST_F(EndpointQuotas, AllOfAMakersEndpointsTogetherHaveWhatHeMayHave) {
  limit(SubjectKind::user, kAlice, 3000);
  Result<Charge> one = take(kFirst, 1000);
  Result<Charge> two = take(kSecond, 1000);
  Result<Charge> own = take(kAlice, 1000);
  ASSERT_TRUE(one && two && own);
  const Result<Charge> more = take(kSecond, 1);
  ASSERT_FALSE(more);
  EXPECT_EQ(slot_of(more.error()), "user alice, who made endpoint second, over all pools");
  EXPECT_FALSE(take(kAlice, 1));
  EXPECT_EQ(quotas.used_by(kFirst).bytes, 1000U);
  EXPECT_EQ(quotas.used_by(kAlice).bytes, 3000U);
  EXPECT_EQ(quotas.pool_used("dram"), 3000U) << "the pool is charged once";
}

TEST_F(EndpointQuotas, TheMakersGroupIsChargedOnce) {
  limit(SubjectKind::group, kStaff, 1500);
  Result<Charge> one = take(kFirst, 1500);
  ASSERT_TRUE(one);
  EXPECT_FALSE(take(kSecond, 1));
  one.value().end();
  EXPECT_TRUE(take(kSecond, 1500));
}

TEST_F(EndpointQuotas, ItsOwnLimitHoldsBesideItsMakers) {
  know(kFirst, "first", 100);
  const Result<Charge> more = take(kFirst, 101);
  ASSERT_FALSE(more);
  EXPECT_EQ(slot_of(more.error()), "endpoint first over all pools");
  EXPECT_TRUE(take(kFirst, 100));
  EXPECT_TRUE(take(kSecond, 101));
}

TEST_F(EndpointQuotas, TheDefaultOfAnyUserIsAnEndpointsTooUnlessItHasItsOwn) {
  limit(SubjectKind::any, 0, 5000);
  limit(SubjectKind::user, kAlice, 100'000);
  know(kSecond, "second", 6000);
  EXPECT_FALSE(take(kFirst, 5001));
  EXPECT_TRUE(take(kSecond, 5001));
}

TEST_F(EndpointQuotas, WhatIsRestoredCountsForTheMakerAsBefore) {
  limit(SubjectKind::user, kAlice, 1000);
  Charge restored = quotas.restore({kFirst, kFirst, "dram"}, {1000, 1, 0, 0});
  EXPECT_FALSE(take(kSecond, 1));
  EXPECT_FALSE(take(kAlice, 1));
  EXPECT_EQ(quotas.report_for(kFirst, {}).front().endpoint, "first");
}

TEST_F(EndpointQuotas, ClientsOfEndpointsLeaveTheirMakerSomeConnections) {
  Limits limits;
  limits.connections = 10;
  quotas.set_policy({{SubjectKind::user, kAlice, "", limits}});
  const Amount one{0, 0, 0, 1};
  std::vector<Charge> open;
  for (;;) {
    Result<Charge> next = quotas.reserve({kFirst, kFirst, ""}, one);
    if (!next) break;
    open.push_back(std::move(next.value()));
  }
  EXPECT_EQ(open.size(), 6U);
  for (int i = 0; i < 4; ++i) {
    Result<Charge> own = quotas.reserve({kAlice, kStaff, ""}, one);
    ASSERT_TRUE(own) << "the maker cannot come to end it";
    open.push_back(std::move(own.value()));
  }
  EXPECT_FALSE(quotas.reserve({kAlice, kStaff, ""}, one));
}

}  // namespace
}  // namespace mapcap::broker
