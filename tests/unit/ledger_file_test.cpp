// The ledger in a file: what is put is there after reopening, and nobody else may have it meanwhile.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "broker/ledger/ledger.h"
#include "broker/ledger/medium/medium_file.h"
#include "broker/ledger/recovery.h"
#include "tests/support/loop_harness.h"

namespace mapcap::broker::ledger {
namespace {

RegionRecord region(RegionId id, std::string name) {
  RegionRecord record;
  record.id = id;
  record.name = std::move(name);
  record.pool = "dram";
  record.owner = 1000;
  record.group = 100;
  record.mode = 0640;
  record.size = {1U << 20U};
  record.cache = {CacheMode::write_combining, true};
  record.cache_effective = CacheMode::uncached;
  record.seal = SealKind::revocable;
  record.lifetime = LifetimeKind::ttl;
  record.ttl_ns = 5'000'000'000;
  record.state = RegionState::draining;
  record.volatile_memory = false;
  record.boot.fill(7);
  record.created_unix_ns = -5;
  record.expires_boot_ns = 6;
  record.expires_unix_ns = 7;
  record.session.fill(9);
  record.extent = 77;
  return record;
}

class LedgerFile : public testing::Test {
 protected:
  LedgerFile() {
    std::string pattern = testing::TempDir() + "ledger-XXXXXX";
    directory_ = ::mkdtemp(pattern.data());
    path_ = directory_ + "/ledger";
  }
  ~LedgerFile() override { std::filesystem::remove_all(directory_); }

  std::unique_ptr<Ledger> open() {
    auto ledger = Ledger::open(path_, harness_.loop, harness_.worker);
    EXPECT_TRUE(ledger) << ledger.error().sentence;
    return std::move(ledger).value();
  }

  void put(Ledger& ledger, const RegionRecord& record, Strength strength) {
    auto result = harness_.run(ledger.put(record, strength));
    EXPECT_TRUE(result) << result.error().sentence;
  }

  test::LoopHarness harness_;
  std::string directory_;
  std::string path_;
};

// Promise 8
TEST_F(LedgerFile, EveryFieldOfARegionComesBack) {
  RegionRecord record;
  {
    auto ledger = open();
    EXPECT_TRUE(ledger->take_recovered().regions.empty());
    record = region(ledger->next_id(), "alice/" + std::string(106, 'x'));
    put(*ledger, record, Strength::power);
  }
  EXPECT_THAT(open()->take_recovered().regions, testing::ElementsAre(record));
}

// Promise 8
TEST_F(LedgerFile, AnUpdateReplacesAndAnEraseRemoves) {
  RegionRecord kept;
  {
    auto ledger = open();
    kept = region(ledger->next_id(), "kept");
    const RegionRecord gone = region(ledger->next_id(), "gone");
    put(*ledger, kept, Strength::power);
    put(*ledger, gone, Strength::power);
    kept.state = RegionState::scrubbing;
    put(*ledger, kept, Strength::power);
    EXPECT_TRUE(harness_.run(ledger->erase(gone.id, Strength::power)));
    EXPECT_TRUE(harness_.run(ledger->erase(gone.id, Strength::power))) << "erasing what is not there is fine";
  }
  EXPECT_THAT(open()->take_recovered().regions, testing::ElementsAre(kept));
}

// Promise 8
TEST_F(LedgerFile, ProcessStrengthSurvivesTheProcess) {
  RegionRecord kept;
  {
    auto ledger = open();
    kept = region(ledger->next_id(), "kept");
    put(*ledger, kept, Strength::process);
    kept.mode = 0600;
    put(*ledger, kept, Strength::process);
    const RegionRecord gone = region(ledger->next_id(), "gone");
    put(*ledger, gone, Strength::process);
    EXPECT_TRUE(harness_.run(ledger->erase(gone.id, Strength::process)));
  }
  EXPECT_THAT(open()->take_recovered().regions, testing::ElementsAre(kept));
}

// Promise 7
TEST_F(LedgerFile, QuotaOverridesComeBackOnePerSlot) {
  QuotaRecord alice{SubjectKind::user, 1000, "dram", {{1U << 20U}, 5, std::nullopt, 0}};
  const QuotaRecord everybody{SubjectKind::any, 0, "", {std::nullopt, 3, std::nullopt, std::nullopt}};
  {
    auto ledger = open();
    EXPECT_TRUE(harness_.run(ledger->put_quota(alice)));
    EXPECT_TRUE(harness_.run(ledger->put_quota(everybody)));
    alice.limits.bytes.reset();
    EXPECT_TRUE(harness_.run(ledger->put_quota(alice)));
  }
  {
    auto ledger = open();
    EXPECT_THAT(ledger->take_recovered().quotas, testing::UnorderedElementsAre(alice, everybody));
    EXPECT_TRUE(harness_.run(ledger->erase_quota(SubjectKind::any, 0, "")));
  }
  EXPECT_THAT(open()->take_recovered().quotas, testing::ElementsAre(alice));
}

TEST_F(LedgerFile, IdsAreNeverReusedWhetherRecordedOrNot) {
  const RegionId first = open()->next_id();
  const RegionId second = open()->next_id();
  EXPECT_LT(first, second);
}

TEST_F(LedgerFile, TwoBrokersCannotOpenOneLedger) {
  auto held = open();
  auto refused = Ledger::open(path_, harness_.loop, harness_.worker);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::busy);
  auto checked = check(path_, stderr);
  ASSERT_FALSE(checked);
  EXPECT_EQ(checked.error().code, ErrorCode::busy);
  held.reset();
  EXPECT_TRUE(Ledger::open(path_, harness_.loop, harness_.worker));
}

TEST_F(LedgerFile, AFullTableGrowsWhereItIs) {
  FileOptions small;
  small.capacity = 16;
  auto medium = open_or_create_file(path_, small);
  ASSERT_TRUE(medium) << medium.error().sentence;
  const std::byte* before = medium.value()->bytes().data();
  std::vector<RegionRecord> records;
  {
    auto ledger = open_on(medium.value(), harness_.loop, harness_.worker);
    ASSERT_TRUE(ledger);
    for (int i = 0; i < 200; ++i) {
      records.push_back(region(ledger.value()->next_id(), "region-" + std::to_string(i)));
      put(*ledger.value(), records.back(), i % 2 == 0 ? Strength::power : Strength::process);
    }
    EXPECT_TRUE(harness_.run(ledger.value()->close()));
  }
  EXPECT_EQ(medium.value()->bytes().data(), before);
  EXPECT_GE(medium.value()->bytes().size(), 200 * 256U);
  medium.value().reset();
  EXPECT_THAT(open()->take_recovered().regions, testing::UnorderedElementsAreArray(records));
}

TEST_F(LedgerFile, ChangesUnderWayAtOnceAllSurvive) {
  std::vector<RegionRecord> records;
  {
    auto ledger = open();
    for (int i = 0; i < 64; ++i) records.push_back(region(ledger->next_id(), "r" + std::to_string(i)));
    auto all = [](Ledger& target, const std::vector<RegionRecord>& wanted,
                  broker::Loop& loop) -> broker::Task<int> {
      int done = 0;
      for (RegionRecord record : wanted) {
        broker::spawn([](Ledger& to, RegionRecord one, int& count) -> broker::Task<void> {
          RegionRecord earlier = one;
          earlier.mode = 0;
          EXPECT_TRUE(co_await to.put(std::move(earlier), Strength::power));
          EXPECT_TRUE(co_await to.put(std::move(one), Strength::power));
          ++count;
        }(target, std::move(record), done));
      }
      while (done < static_cast<int>(wanted.size())) co_await loop.yield();
      co_return done;
    };
    EXPECT_EQ(harness_.run(all(*ledger, records, harness_.loop)), 64);
  }
  EXPECT_THAT(open()->take_recovered().regions, testing::UnorderedElementsAreArray(records));
}

// Promise 15
TEST_F(LedgerFile, WhenARegionWasPublishedComesBackWithEachLifetime) {
  std::vector<RegionRecord> records;
  {
    auto ledger = open();
    for (const LifetimeKind lifetime :
         {LifetimeKind::connection, LifetimeKind::ttl, LifetimeKind::persistent}) {
      RegionRecord record = region(ledger->next_id(), "a");
      record.lifetime = lifetime;
      record.published_unix_ns = 1'700'000'000'000'000'001;
      // What a region of that lifetime does not have.
      if (lifetime == LifetimeKind::connection) record.ttl_ns = 0;
      if (lifetime != LifetimeKind::connection) record.session = {};
      put(*ledger, record, Strength::power);
      records.push_back(record);
    }
  }
  EXPECT_THAT(open()->take_recovered().regions, testing::UnorderedElementsAreArray(records));
}

TEST_F(LedgerFile, ARecordThatDoesNotFitIsRefused) {
  auto ledger = open();
  RegionRecord record = region(ledger->next_id(), std::string(113, 'x'));
  auto refused = harness_.run(ledger->put(record, Strength::power));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::invalid);
  record.name = "fits";
  record.pool = std::string(24, 'p');
  EXPECT_FALSE(harness_.run(ledger->put(record, Strength::power)));
  record.pool = std::string(23, 'p');
  EXPECT_TRUE(harness_.run(ledger->put(record, Strength::power)));
  record.id = RegionId{0};
  EXPECT_FALSE(harness_.run(ledger->put(record, Strength::power)));
}

}  // namespace
}  // namespace mapcap::broker::ledger
