// Promise 12: who lets go of thousands of grants at once waits for that himself.
#include "broker/books/releases.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <vector>

#include "broker/books/directory.h"
#include "tests/support/loop_harness.h"

namespace mapcap::broker {
namespace {

class ReleasesTest : public testing::Test {
 protected:
  static Task<int> turns(Loop& loop, int count) {
    for (int i = 0; i < count; ++i) co_await loop.yield();
    co_return 0;
  }

  test::LoopHarness harness_;
  std::vector<confine::GrantId> taken_;
  std::vector<Meter::Account> accounts_;
  Releases releases_{
      harness_.loop,
      {[](confine::GrantId grant) { return Meter::Account(static_cast<uid_t>(1000 + grant % 3)); },
       [this](confine::GrantId grant) {
         taken_.push_back(grant);
         accounts_.push_back(harness_.loop.meter().account());
       }}};
};

TEST_F(ReleasesTest, SomeDozensATurnInTheirOrderAndTheRestAfterOthersHadTheirs) {
  constexpr std::size_t kMany = 10 * Releases::kAtOnce + 5;
  std::vector<confine::GrantId> all;
  for (std::size_t i = 0; i < kMany; ++i) all.push_back(i + 1);
  for (const confine::GrantId grant : all) releases_.add(grant);
  EXPECT_TRUE(taken_.empty()) << "whoever tells of them is in the middle of its own work";
  releases_.take();
  EXPECT_EQ(taken_.size(), Releases::kAtOnce);
  releases_.take();
  std::size_t before = taken_.size();
  EXPECT_EQ(before, Releases::kAtOnce) << "the rest has its turns already";
  while (releases_.waiting() > 0) {
    harness_.run(turns(harness_.loop, 1));
    // A harness takes two turns for one.
    ASSERT_LE(taken_.size() - before, 2 * Releases::kAtOnce);
    before = taken_.size();
  }
  EXPECT_EQ(taken_, all);
}

TEST_F(ReleasesTest, EachIsOnItsHoldersAccount) {
  for (confine::GrantId grant = 1; grant <= 9; ++grant) releases_.add(grant);
  releases_.take();
  EXPECT_EQ(taken_.size(), 9U) << "few of them need no turn of their own";
  while (releases_.waiting() > 0) harness_.run(turns(harness_.loop, 1));
  for (std::size_t i = 0; i < taken_.size(); ++i)
    EXPECT_EQ(accounts_[i], Meter::Account(static_cast<uid_t>(1000 + taken_[i] % 3)));
}

// ---- the books of one region

TEST(Grants, HoldersAreCountedAsTheyComeAndGo) {
  Grants grants;
  using Holders = std::map<Grants::Holder, std::size_t>;
  const auto counted = [&grants] {
    Holders holders;
    for (const auto& [holder, ids] : grants.holders()) holders[holder] = ids.size();
    return holders;
  };
  grants.add({1, Access::read_only, 5, {}});
  grants.add({2, Access::read_only, 5, {}});
  grants.add({3, Access::read_write, 5, {}});
  grants.add({4, Access::read_only, 6, {}});
  EXPECT_EQ(
      counted(),
      (Holders{{{5, Access::read_only}, 2}, {{5, Access::read_write}, 1}, {{6, Access::read_only}, 1}}));
  ASSERT_NE(grants.one_of(6), nullptr);
  EXPECT_EQ(grants.one_of(6)->id, 4U);
  ASSERT_NE(grants.one_of(7), nullptr) << "anybody's";
  for (const confine::GrantId id : {2U, 4U, 3U}) grants.remove(id);
  EXPECT_EQ(counted(), (Holders{{{5, Access::read_only}, 1}}));
  grants.remove(1);
  EXPECT_TRUE(grants.empty());
  EXPECT_TRUE(grants.holders().empty());
  EXPECT_EQ(grants.one_of(5), nullptr);
}

TEST(Grants, HoldersAreToldApartByWhereTheyRan) {
  const auto at = [](const std::string& cgroup, const std::string& program) {
    policy::PeerLabel label;
    label.program = program;
    label.cgroup = cgroup;
    policy::name_cgroup(label);
    return std::make_shared<const policy::PeerLabel>(std::move(label));
  };
  Grants grants;
  grants.add({1, Access::read_only, 5, {}, at("/system.slice/a.service", "one")});
  grants.add({2, Access::read_only, 5, {}, at("/system.slice/a.service/below", "two")});
  grants.add({3, Access::read_only, 5, {}, at("/system.slice/b.service", "one")});
  grants.add({4, Access::read_only, 5, {}});
  grants.add({5, Access::read_only, 5, {}, at("/", "one")});
  grants.add({6, Access::read_write, 5, {}, at("/plain", "one")});
  grants.add({7, Access::read_only, 6, {}, at("/plain", "one")});
  std::vector<std::size_t> counts;
  for (const auto& [holder, ids] : grants.holders()) counts.push_back(ids.size());
  // Of user 5 nowhere, in a, in b, and to write; then user 6.
  EXPECT_EQ(counts, (std::vector<std::size_t>{2, 2, 1, 1, 1}));
  EXPECT_EQ(grants.held_by(5), 6U);
  EXPECT_EQ(grants.held_by(6), 1U);
  EXPECT_EQ(grants.held_by(7), 0U);
  EXPECT_EQ(grants.one_of(6)->id, 7U);
  for (confine::GrantId id = 1; id <= 7; ++id) grants.remove(id);
  EXPECT_TRUE(grants.holders().empty());
}

TEST(Grants, WhoWaitsForTheLastIsNotWokenForEach) {
  test::LoopHarness harness;
  Directory directory;
  auto made = std::make_unique<Region>(harness.loop);
  made->record.id = {1};
  made->record.name = "a/shared";
  Region& region = directory.add(std::move(made));
  constexpr confine::GrantId kMany = 4000;
  for (confine::GrantId id = 1; id <= kMany; ++id) directory.track(region, {id, Access::read_only, 5, {}});
  int woken = 0;
  struct Wait {
    static Task<void> of(Region& one, int& count) {
      while (!one.grants.empty()) {
        const std::shared_ptr<Event> changed = one.changed;
        co_await changed->wait();
        ++count;
      }
    }
  };
  harness.loop.post([&] { spawn(Wait::of(region, woken)); });
  harness.loop.post([&] {
    for (confine::GrantId id = 1; id <= kMany; ++id) EXPECT_EQ(directory.release(id), &region);
    harness.loop.post([&] { harness.loop.stop(); });
  });
  harness.loop.run();
  harness.loop.post([&] { harness.loop.stop(); });
  harness.loop.run();
  EXPECT_EQ(woken, 1);
  directory.remove({1});
}

}  // namespace
}  // namespace mapcap::broker
