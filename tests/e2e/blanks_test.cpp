// Creates that are served from what was made ahead: quicker, and otherwise like any other.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/broker_process.h"
#include "tests/support/patience.h"

namespace mapcap::test {
namespace {

constexpr std::uint64_t kSize = 4096;

class BlanksTest : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root: it starts mapcapd";
    broker_.start();
    for (const PoolInfo& pool : broker_.connect().pools()) {
      if (pool.confinement != Confinement::clone) GTEST_SKIP() << "no clones here, and nothing made ahead";
    }
  }

  static RegionSpec spec(const std::string& name) {
    RegionSpec wanted;
    wanted.name = name;
    wanted.size = kSize;
    wanted.lifetime = Lifetime::persistent();
    return wanted;
  }
  static std::string attribute(int fd, const char* name) {
    std::array<char, 256> value{};
    const ssize_t length = ::fgetxattr(fd, name, value.data(), value.size());
    return length < 0 ? "!" : std::string(value.data(), static_cast<std::size_t>(length));
  }
  /// Creates one after the other until one was made ahead; returns how many.
  int create_until_one_is_used(Client& client, const std::string& prefix) {
    const std::uint64_t before = client.status().keeper.blanks_used;
    int made = 0;
    EXPECT_TRUE(comes_true([&] {
      client.create(spec(prefix + std::to_string(made++)), Access::read_write);
      return client.status().keeper.blanks_used > before;
    })) << "no create was served from what was made ahead";
    return made;
  }
  [[nodiscard]] std::size_t memory_of_keeper() const {
    std::size_t count = 0;
    for (const auto& entry :
         std::filesystem::directory_iterator("/proc/" + std::to_string(broker_.keeper_pid()) + "/fd")) {
      std::error_code gone;
      count += std::filesystem::read_symlink(entry.path(), gone).string().starts_with("/memfd:mapcap ");
    }
    return count;
  }

  BrokerProcess broker_;
};

TEST_F(BlanksTest, AreNobodysAndWhatIsMadeOfOneSaysWhatItIs) {
  Client client = broker_.connect();
  const int made = create_until_one_is_used(client, "root/a");
  const BrokerStatus status = client.status();
  EXPECT_EQ(status.keeper.held, static_cast<std::uint64_t>(made)) << "a blank counts as a region";
  EXPECT_EQ(status.unguarded, 0U);
  EXPECT_EQ(client.list().size(), static_cast<std::size_t>(made));
  EXPECT_EQ(client.pools().front().used, static_cast<std::uint64_t>(made) * kSize)
      << "somebody is charged for blanks";

  std::set<std::uint64_t> ids;
  for (int i = 0; i < 100; ++i) {
    const std::string name = "root/b" + std::to_string(i);
    const Grant grant = client.create(spec(name), i % 2 == 0 ? Access::read_write : Access::read_only);
    ids.insert(grant.info().id);
    EXPECT_EQ(attribute(grant.fd(), "system.mapcap.name"), name);
    EXPECT_EQ(attribute(grant.fd(), "system.mapcap.size"), std::to_string(kSize));
    EXPECT_EQ(attribute(grant.fd(), "system.mapcap.rights"), i % 2 == 0 ? "rw" : "ro");
    EXPECT_EQ(attribute(grant.fd(), "system.mapcap.published"), "no");
    struct stat facts {};
    EXPECT_EQ(::fstat(grant.fd(), &facts), 0);
    EXPECT_EQ(static_cast<std::uint64_t>(facts.st_size), kSize);
  }
  EXPECT_EQ(ids.size(), 100U);
}

// Promises 7 and 9
TEST_F(BlanksTest, ManyAtOnceFallBackToWhatIsMadeAtTheirRequest) {
  constexpr int kClients = 8;
  constexpr int kEach = 125;
  std::vector<std::thread> threads;
  std::array<int, kClients> failed{};
  for (int one = 0; one < kClients; ++one) {
    threads.emplace_back([&, one] {
      Client client = broker_.connect();
      for (int i = 0; i < kEach; ++i) {
        const std::string name = "root/c" + std::to_string(one) + "-" + std::to_string(i);
        try {
          const Grant grant = client.create(spec(name), Access::read_write);
          if (attribute(grant.fd(), "system.mapcap.name") != name) ++failed.at(one);
        } catch (const Error& error) {
          ADD_FAILURE() << error.what();
          ++failed.at(one);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(failed, testing::Each(0));
  Client client = broker_.connect();
  EXPECT_EQ(client.pools().front().used, kClients * kEach * kSize);
  EXPECT_GT(client.status().keeper.blanks_used, 0U);
  EXPECT_EQ(client.status().keeper.held, static_cast<std::uint64_t>(kClients * kEach));
}

// Promise 9
TEST_F(BlanksTest, WhateverDiesNoneIsLeftAndNoRegionIsLost) {
  int regions = 0;
  for (int round = 0; round < 4; ++round) {
    {
      Client client = broker_.connect();
      regions += create_until_one_is_used(client, "root/d" + std::to_string(round) + "-");
      ASSERT_TRUE(comes_true([&] { return client.status().keeper.blanks > 0; }));
    }
    if (round % 2 == 0) {
      broker_.kill_broker();
      broker_.start();
    } else {
      const pid_t old = broker_.keeper_pid();
      broker_.kill_keeper();
      ASSERT_TRUE(comes_true([&] { return broker_.keeper_pid() != 0 && broker_.keeper_pid() != old; }));
    }
    Client client = broker_.connect();
    EXPECT_TRUE(comes_true([&] { return client.status().unguarded == 0; }));
    const std::vector<RegionInfo> listed = client.list();
    EXPECT_EQ(listed.size(), static_cast<std::size_t>(regions));
    EXPECT_TRUE(std::all_of(listed.begin(), listed.end(),
                            [](const RegionInfo& region) { return region.state == RegionState::live; }));
    EXPECT_EQ(client.pools().front().used, static_cast<std::uint64_t>(regions) * kSize);
    EXPECT_TRUE(comes_true([&] { return memory_of_keeper() == static_cast<std::size_t>(regions); }))
        << memory_of_keeper() << " files with the keeper for " << regions << " regions";
  }
}

// Promises 7 and 9
TEST_F(BlanksTest, ADeathAtEachStepOfOneLeavesARegionOrNothing) {
  for (const char* step : {"taken", "named"}) {
    broker_.kill_broker();
    broker_.set_program(MAPCAPD_FAULTS_PATH);
    broker_.set_environment({std::string("MAPCAP_DIE_AT=") + step});
    broker_.start();
    std::size_t before = 0;
    std::size_t acknowledged = 0;
    {
      ConnectOptions options;
      options.deadline = kPatience;
      options.reconnect_within = std::chrono::milliseconds(0);
      Client client = broker_.connect(options);
      before = client.list().size();
      EXPECT_THROW(
          while (acknowledged < 10'000) {
            client.create(spec(std::string("root/") + step + std::to_string(acknowledged)),
                          Access::read_write);
            ++acknowledged;
          },
          Error);
    }
    ASSERT_TRUE(broker_.await_end()) << "no create took one that was made ahead";
    broker_.set_environment({});
    broker_.start();
    Client client = broker_.connect();
    const std::vector<RegionInfo> listed = client.list();
    EXPECT_EQ(listed.size(), before + acknowledged) << step;
    EXPECT_TRUE(std::all_of(listed.begin(), listed.end(),
                            [](const RegionInfo& region) { return region.state == RegionState::live; }));
    EXPECT_EQ(client.pools().front().used, listed.size() * kSize) << step;
    EXPECT_TRUE(comes_true([&] { return memory_of_keeper() == listed.size(); })) << memory_of_keeper();
    EXPECT_NO_THROW(client.create(spec(std::string("root/") + step + std::to_string(acknowledged))));
  }
}

// Who asks no more has no descriptors and no memory for what he may ask.
TEST_F(BlanksTest, AreGoneWhenNobodyAsksAndWhenTheServiceEnds) {
  Client client = broker_.connect();
  const int made = create_until_one_is_used(client, "root/e");
  EXPECT_TRUE(comes_true([&] { return client.status().keeper.blanks == 0; })) << "they stay for ever";
  EXPECT_TRUE(comes_true([&] { return memory_of_keeper() == static_cast<std::size_t>(made); }));
  for (int i = 0; i < made; ++i) client.revoke("root/e" + std::to_string(i));
  ASSERT_TRUE(comes_true([&] { return client.list().empty(); }));
  const int again = create_until_one_is_used(client, "root/f");
  for (int i = 0; i < again; ++i) client.revoke("root/f" + std::to_string(i));
  ASSERT_TRUE(comes_true([&] { return client.list().empty(); }));
  const pid_t keeper = broker_.keeper_pid();
  EXPECT_EQ(broker_.terminate(), 0);
  EXPECT_TRUE(comes_true([&] { return ::kill(keeper, 0) != 0; })) << "a keeper that holds but blanks goes on";
}

}  // namespace
}  // namespace mapcap::test
