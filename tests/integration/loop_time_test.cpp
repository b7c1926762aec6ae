// Promise 12: what holders, owners and strangers can make long is not done by the loop, whatever it looks
// like.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "broker/reload.h"
#include "policy/load/loader.h"
#include "tests/support/regions_harness.h"

namespace mapcap::test {
namespace {

using namespace std::chrono_literals;

constexpr Lifetime kPersistent{LifetimeKind::persistent, 0ns};

constexpr const char* kOtherPolicy =
    "[broker]\nmax_connections_per_user = 7\n"
    "[pool.dram]\nbacking=\"memory\"\ncapacity=\"64M\"\nconfinement=\"sealed\"\n"
    "[[rule]]\nany=true\nnames=[\"**\"]\n";

class LoopTimeTest : public RegionsTest {};

TEST_F(LoopTimeTest, WhatSomebodyMayHaveMappedIsNeitherCutNorFreedByTheLoop) {
  const Who owner;
  ASSERT_TRUE(create(owner, "a/small", kPersistent, 0666));
  ASSERT_TRUE(open({2000, 2, {}}, "a/small"));
  bool held = true;
  pool().held_while([&held] { return held; });
  ASSERT_TRUE(revoke(owner, "a/small"));
  held = false;
  ASSERT_TRUE(until([this] { return directory().size() == 0; }));
  EXPECT_EQ(pool().count("cut").here, 0U);
  EXPECT_EQ(pool().count("cut").elsewhere, 1U);
  EXPECT_EQ(pool().count("free").here, 0U);
  EXPECT_EQ(pool().count("free").elsewhere, 1U);
}

TEST_F(LoopTimeTest, WhatNobodyHasAnyMoreIsGoneWhenItsRevokeIsAnswered) {
  const Who owner;
  for (const SealKind seal : {SealKind::sealed, SealKind::revocable}) {
    ASSERT_TRUE(create(owner, "a/never-opened", kPersistent, 0666, seal));
    ASSERT_TRUE(create(owner, "a/let-go", kPersistent, 0666, seal));
    ASSERT_TRUE(open({2000, 2, {}}, "a/let-go"));
    for (const char* name : {"a/never-opened", "a/let-go"}) {
      const auto revoked = revoke(owner, name);
      ASSERT_TRUE(revoked);
      EXPECT_EQ(revoked.value().grants, 0U);
      EXPECT_EQ(revoked.value().held, 0U);
      EXPECT_EQ(directory().find_or_latest(name), nullptr) << "it is still listed, and charged";
    }
    EXPECT_EQ(quotas().pool_used("dram"), 0U);
  }
  for (const char* step : {"cut", "free"}) EXPECT_EQ(pool().count(step).elsewhere, 0U) << step;
  EXPECT_EQ(pool().count("cut").here, 0U) << "there is nobody to take it from";
  EXPECT_EQ(pool().count("free_at_once").here, 2U);
}

TEST_F(LoopTimeTest, WhatNobodyHasAndIsLargeIsFreedOffTheLoop) {
  schema::Create large;
  large.name = "a/large";
  large.size = 8U << 20U;
  large.lifetime = kPersistent;
  large.grant = Access::read_write;
  ASSERT_TRUE(create(Who{}, large));
  const Fd memory(::fcntl(directory().find(large.name)->extent.fd().get(), F_DUPFD_CLOEXEC, 3));
  ASSERT_EQ(::fallocate(memory.get(), 0, 0, static_cast<off_t>(large.size)), 0);
  ASSERT_TRUE(revoke(Who{}, "a/large"));
  ASSERT_TRUE(until([this] { return directory().size() == 0; }));
  EXPECT_EQ(pool().count("cut").elsewhere + pool().count("cut").here, 0U);
  EXPECT_EQ(pool().count("free").here, 0U);
  EXPECT_EQ(pool().count("free").elsewhere, 1U);
  struct stat left {};
  ASSERT_EQ(::fstat(memory.get(), &left), 0);
  EXPECT_EQ(left.st_blocks, 0) << "its pages went with its charge, whoever else has a descriptor";
}

TEST_F(LoopTimeTest, WhoHasADeviceIsNotAskedByTheLoop) {
  pool().be_slow();
  const Who owner;
  ASSERT_TRUE(create(owner, "a/device", kPersistent, 0666));
  ASSERT_TRUE(open({2000, 2, {}}, "a/device"));
  ASSERT_TRUE(revoke(owner, "a/device"));
  ASSERT_TRUE(until([this] { return directory().size() == 0; }));
  EXPECT_EQ(pool().count("held").here, 0U);
  EXPECT_GT(pool().count("held").elsewhere, 0U);
}

TEST_F(LoopTimeTest, NoVerbAsksForBadBlocksOnTheLoop) {
  const Who owner;
  ASSERT_TRUE(create(owner, "a/one", kPersistent));
  ASSERT_TRUE(create(owner, "a/two", {LifetimeKind::ttl, 1h}));
  ASSERT_TRUE(renew(owner, "a/two", 2h));
  ASSERT_TRUE(open(owner, "a/one"));
  const auto listing = list(owner, {});
  ASSERT_TRUE(listing);
  ASSERT_EQ(listing.value().regions.size(), 2U);
  for (const RegionInfo& region : listing.value().regions) EXPECT_EQ(region.bad_blocks, 3U);
  const auto shown = show(owner, "a/one");
  ASSERT_TRUE(shown);
  EXPECT_EQ(shown.value().region.bad_blocks, 3U);
  EXPECT_EQ(pool().count("bad_blocks").here, 0U);
  EXPECT_EQ(pool().count("bad_blocks").elsewhere, 5U);
  for (const char* name : {"a/one", "a/two"}) ASSERT_TRUE(revoke(owner, name));
}

// For the thread sanitizer: the memory of regions that are listed goes meanwhile.
TEST_F(LoopTimeTest, ListsAndRevokesGoOnSideBySide) {
  pool().be_slow();
  const Who owner;
  for (int round = 0; round < 20; ++round) {
    for (int i = 0; i < 5; ++i) {
      ASSERT_TRUE(create(owner, "a/" + std::to_string(i), kPersistent, 0666));
      ASSERT_TRUE(open(owner, "a/" + std::to_string(i)));
    }
    for (int i = 0; i < 5; ++i) {
      ASSERT_TRUE(revoke(owner, "a/" + std::to_string(i)));
      ASSERT_TRUE(list(owner, {}));
    }
  }
}

TEST_F(LoopTimeTest, ALongListLeavesOthersTheirTurns) {
  constexpr std::uint64_t kMany = 20'000;
  for (std::uint64_t i = 1; i <= kMany; ++i) {
    auto region = std::make_unique<broker::Region>(loop());
    region->record.id = {1'000'000 + i};
    region->record.name = "b/" + std::string(200, 'a') + std::to_string(i);
    region->record.state = RegionState::lost;
    directory().add(std::move(region));
  }
  std::size_t turns = 0;
  bool listed = false;
  struct Other {
    static broker::Task<void> of(broker::Loop& loop, std::size_t& count, const bool& over) {
      while (!over) {
        co_await loop.yield();
        ++count;
      }
    }
  };
  loop().post([&] { broker::spawn(Other::of(loop(), turns, listed)); });
  schema::List ask;
  // As long as a glob can be that some name of at most 112 bytes still matches.
  while (ask.glob.size() < 220) ask.glob += "*a";
  ask.glob += "*b";
  const auto listing = list({}, ask);
  listed = true;
  ASSERT_TRUE(listing);
  EXPECT_TRUE(listing.value().regions.empty());
  // With 0.1 ms each that is less than a hundredth of what any processor takes for them.
  EXPECT_GE(turns, 5U);
  until([] { return true; });
  for (std::uint64_t i = 1; i <= kMany; ++i) directory().remove({1'000'000 + i});
}

TEST_F(LoopTimeTest, NeitherThePolicyFileNorItsNamesAreAskedForOnTheLoop) {
  std::mutex mutex;
  std::vector<std::thread::id> threads;
  std::uint32_t per_user = 0;
  broker::Reload reload(
      {loop(),
       worker(),
       worker(),
       worker(),
       regions(),
       quotas(),
       keeper(),
       report(),
       pools(),
       {},
       [&](const policy::BrokerSettings& limits) { per_user = limits.max_connections_per_user; }},
      "", "", [&] {
        const std::lock_guard lock(mutex);
        threads.push_back(std::this_thread::get_id());
        const char* lent = threads.size() == 1 ? "1000:100000:65536\n" : "1000:200000:65536\n";
        broker::Reload::Loaded loaded;
        loaded.examined = policy::examine_text(kOtherPolicy, "policy.toml", policy::system_accounts());
        loaded.subordinates = policy::Subordinates::parse(lent, policy::Accounts{});
        return loaded;
      });
  loop().post([&] {
    reload.ask();
    reload.ask();  // The file may have changed since.
  });
  ASSERT_TRUE(until([&] { return quotas().account_of(200'001) == 1000; })) << "the second is in force";
  EXPECT_EQ(threads.size(), 2U);
  for (const std::thread::id thread : threads) EXPECT_NE(thread, std::this_thread::get_id());
  EXPECT_EQ(regions().policy().broker().max_connections_per_user, 7U) << "it is in force";
  EXPECT_EQ(per_user, 7U);
}

TEST_F(LoopTimeTest, ADrainTakesOneOfAsManyPlacesAsAUserMayHaveConnections) {
  const Who owner;
  ASSERT_TRUE(create(owner, "a/one", kPersistent));
  ASSERT_TRUE(create(owner, "a/two", kPersistent));
  ASSERT_TRUE(open(owner, "a/one"));
  bool held = true;
  pool().held_while([&held] { return held; });
  std::vector<ErrorCode> refused;
  const policy::Subject subject = policy::Subject::for_explanation(owner.uid, owner.uid, {}, "u");
  const std::size_t most = regions().policy().broker().max_connections_per_user;
  std::size_t ended = 0;
  struct Ask {
    static broker::Task<void> of(broker::Regions& all, const policy::Subject& who, std::string name,
                                 std::vector<ErrorCode>& codes, std::size_t& over) {
      schema::Revoke ask;
      ask.name = std::move(name);
      ask.drain = true;
      ask.within = 20s;
      auto answer = co_await all.revoke(broker::Caller{who, 1, {}, 1}, ask);
      if (!answer) codes.push_back(answer.error().code);
      ++over;
    }
  };
  loop().post([&] {
    // All before the first has had an answer of the ledger's thread.
    for (std::size_t i = 0; i <= most; ++i)
      broker::spawn(Ask::of(regions(), subject, "a/one", refused, ended));
  });
  ASSERT_TRUE(until([&] { return refused.size() == 1; }));
  held = false;
  ASSERT_TRUE(until([&] { return ended == most + 1; }));
  ASSERT_EQ(refused.size(), 1U);
  EXPECT_EQ(refused.front(), ErrorCode::over_quota);
  ASSERT_TRUE(revoke(owner, "a/two")) << "and without a drain there is no limit";
}

TEST_F(LoopTimeTest, ACreateThatIsUndoneFreesWhatItPopulatedOffTheLoop) {
  pool().be_slow();
  keeper().refuses = true;
  ASSERT_FALSE(create({}, "a/populated", kPersistent));
  ASSERT_TRUE(until([this] {
    return pool().count("discard").elsewhere == 1 && quotas().pool_used("dram") == 0;
  })) << "not undone, or charged for ever";
  EXPECT_EQ(pool().count("discard").here, 0U);
}

}  // namespace
}  // namespace mapcap::test
