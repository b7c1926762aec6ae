// Opens that are served from what was made ahead: quicker, and otherwise like any other.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/broker_process.h"
#include "tests/support/patience.h"

namespace mapcap::test {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kSize = 64U << 10U;
constexpr const char* kName = "root/model";

/// By the region's seal kind.
class OpensAheadTest : public testing::TestWithParam<SealKind> {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root: it starts mapcapd";
    broker_.start();
    client_.emplace(broker_.connect());
    for (const PoolInfo& pool : client().pools()) {
      if (pool.confinement != Confinement::clone) GTEST_SKIP() << "no clones here, and nothing made ahead";
    }
    create();
  }

  Client& client() { return *client_; }
  void create() {
    RegionSpec wanted;
    wanted.name = kName;
    wanted.size = kSize;
    wanted.seal = GetParam();
    wanted.lifetime = Lifetime::persistent();
    Mapping mapping(client().create(wanted, Access::read_write));
    mapping.writable()[0] = std::byte{0x5A};
  }
  Grant reader() { return client().open(kName, Access::read_only); }
  KeeperStatus keeper() { return client().status().keeper; }
  /// Opens until some are ready that nobody has, and nobody has any other.
  void make_some_ready() {
    const std::uint64_t before = keeper().opens_used;
    ASSERT_TRUE(comes_true([&] {
      reader();
      const KeeperStatus status = keeper();
      return status.opens_used > before && status.opens > 0;
    })) << "nothing is made ahead";
    ASSERT_TRUE(comes_true([&] { return client().show(kName).region.grants == 0; }))
        << "grants that nobody has are somebody's";
    ASSERT_GT(keeper().opens, 0U);
  }
  static std::string attribute(int fd, const char* name) {
    std::array<char, 256> value{};
    const ssize_t length = ::fgetxattr(fd, name, value.data(), value.size());
    return length < 0 ? "!" : std::string(value.data(), static_cast<std::size_t>(length));
  }

  BrokerProcess broker_;
  std::optional<Client> client_;
};

// Promise 8
TEST_P(OpensAheadTest, AreChargedToNobodyAndHeldByNobody) {
  make_some_ready();
  EXPECT_TRUE(client().show(kName).holders.empty());
  for (const QuotaInfo& quota : client().quota()) EXPECT_EQ(quota.grants, 0U);
  const std::uint64_t before = keeper().opens_used;
  std::vector<Grant> grants;
  ASSERT_TRUE(comes_true([&] {
    grants.push_back(reader());
    return keeper().opens_used > before + 5;
  }));
  const RegionDetails details = client().show(kName);
  EXPECT_EQ(details.region.grants, grants.size());
  ASSERT_EQ(details.holders.size(), 1U);
  EXPECT_EQ(details.holders.front().count, grants.size());
  for (const Grant& grant : grants) {
    EXPECT_EQ(attribute(grant.fd(), "system.mapcap.name"), kName);
    EXPECT_EQ(attribute(grant.fd(), "system.mapcap.rights"), "ro");
    EXPECT_EQ(attribute(grant.fd(), "system.mapcap.size"), std::to_string(kSize));
  }
  const Mapping mapping(std::move(grants.back()));
  EXPECT_EQ(mapping.bytes()[0], std::byte{0x5A});
  grants.clear();
  EXPECT_TRUE(comes_true([&] { return client().show(kName).region.grants == 1; }));
}

// Promises 5 and 8
TEST_P(OpensAheadTest, KeepNoRegionThatIsRevoked) {
  for (const bool drain : {false, true}) {
    make_some_ready();
    RevokeOptions options;
    options.drain = drain;
    const Revoked revoked = client().revoke(kName, options);
    EXPECT_EQ(revoked.grants, 0U);
    EXPECT_EQ(revoked.held, 0U);
    EXPECT_EQ(keeper().opens, 0U);
    EXPECT_TRUE(comes_true([&] { return client().list().empty(); })) << "it is held by what nobody has";
    EXPECT_EQ(client().pools().front().used, 0U);
    create();
    // What was ready was another region's.
    const Mapping mapping(reader());
    EXPECT_EQ(mapping.bytes()[0], std::byte{0x5A});
  }
}

// Promise 5: also where somebody else holds it for longer.
TEST_P(OpensAheadTest, AreDroppedByARevokeWhoeverHoldsTheRegion) {
  const Grant held = reader();
  const std::uint64_t before = keeper().opens_used;
  ASSERT_TRUE(comes_true([&] {
    reader();
    return keeper().opens_used > before && keeper().opens > 0;
  }));
  EXPECT_GE(client().revoke(kName).grants, 1U);
  EXPECT_EQ(keeper().opens, 0U);
  EXPECT_THROW(reader(), Error);
}

// Promise 15
TEST_P(OpensAheadTest, DelayNoPublishAndSayThatItHappened) {
  make_some_ready();
  EXPECT_NO_THROW(client().publish(kName)) << "somebody who has nothing is in the way";
  const std::uint64_t before = keeper().opens_used;
  ASSERT_TRUE(comes_true([&] {
    const Grant grant = reader();
    EXPECT_NE(attribute(grant.fd(), "system.mapcap.published"), "no");
    return keeper().opens_used > before;
  }));
}

// Promise 15, whatever is being made meanwhile.
TEST_P(OpensAheadTest, ThoseMadeDuringAPublishSayThatItHappened) {
  std::atomic<bool> over = false;
  std::thread opening([&] {
    Client other = broker_.connect();
    while (!over) other.open(kName, Access::read_only);
  });
  const bool some = comes_true([&] { return keeper().opens_used > 20; });
  EXPECT_NO_THROW(client().publish(kName, 20s));
  for (int i = 0; i < 200; ++i) {
    const Grant grant = reader();
    ASSERT_NE(attribute(grant.fd(), "system.mapcap.published"), "no") << i;
  }
  over = true;
  opening.join();
  EXPECT_TRUE(some);
}

// Promise 9
TEST_P(OpensAheadTest, WhateverDiesNoRegionIsHeldByThem) {
  for (int round = 0; round < 4; ++round) {
    make_some_ready();
    if (round % 2 == 0) {
      broker_.kill_broker();
      broker_.start();
      client_.emplace(broker_.connect());
    } else {
      const pid_t old = broker_.keeper_pid();
      broker_.kill_keeper();
      ASSERT_TRUE(comes_true([&] { return broker_.keeper_pid() != 0 && broker_.keeper_pid() != old; }));
    }
    EXPECT_TRUE(comes_true([&] { return client().show(kName).region.grants == 0; }));
    EXPECT_TRUE(comes_true([&] { return client().status().unguarded == 0; }));
    EXPECT_EQ(client().show(kName).region.state, RegionState::live);
    const Mapping mapping(reader());
    EXPECT_EQ(mapping.bytes()[0], std::byte{0x5A});
  }
  client().revoke(kName);
  EXPECT_TRUE(comes_true([&] { return client().list().empty(); }));
}

// Promises 5 and 7
TEST_P(OpensAheadTest, ManyWhoOpenWhileItComesAndGoes) {
  constexpr int kClients = 6;
  std::atomic<bool> over = false;
  std::array<int, kClients> opened{};
  std::vector<std::thread> threads;
  for (int one = 0; one < kClients; ++one) {
    threads.emplace_back([&, one] {
      Client other = broker_.connect();
      while (!over) {
        try {
          const Grant grant = other.open(kName, Access::read_only);
          if (attribute(grant.fd(), "system.mapcap.name") != kName) ADD_FAILURE() << "another region's";
          ++opened.at(static_cast<std::size_t>(one));
        } catch (const Error& error) {
          const bool gone = error.code() == ErrorCode::not_found || error.code() == ErrorCode::busy;
          if (!gone) ADD_FAILURE() << error.what();
        }
      }
    });
  }
  for (int round = 0; round < 40; ++round) {
    client().revoke(kName);
    create();
  }
  over = true;
  for (std::thread& thread : threads) thread.join();
  client().revoke(kName);
  EXPECT_TRUE(comes_true([&] { return client().list().empty(); }));
  EXPECT_EQ(client().pools().front().used, 0U);
  for (const QuotaInfo& quota : client().quota()) EXPECT_EQ(quota.grants, 0U);
}

TEST_P(OpensAheadTest, AreGoneWhenNobodyAsks) {
  make_some_ready();
  EXPECT_TRUE(comes_true([&] { return keeper().opens == 0; })) << "they stay for ever";
}

INSTANTIATE_TEST_SUITE_P(Seals, OpensAheadTest, testing::Values(SealKind::revocable, SealKind::sealed),
                         [](const auto& seal) { return std::string(to_string(seal.param)); });

}  // namespace
}  // namespace mapcap::test
