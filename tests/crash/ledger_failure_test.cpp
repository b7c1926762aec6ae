// ENOSPC, EIO from msync and a full table: the request fails with a clear error, and the ledger goes on,
// whole.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "broker/ledger/recovery.h"
#include "tests/crash/ledger_scenario.h"
#include "tests/support/loop_harness.h"
#include "tests/support/memory_medium.h"

namespace mapcap::test {
namespace {

using broker::ledger::Strength;

class LedgerFailure : public testing::Test {
 protected:
  LedgerFailure() {
    auto opened = broker::ledger::open_on(medium_, harness_.loop, harness_.worker);
    EXPECT_TRUE(opened);
    ledger_ = std::move(opened).value();
  }

  broker::ledger::RegionRecord region(std::uint64_t value) {
    return region_with({false, ledger_->next_id().value}, value);
  }

  Result<void> put(const broker::ledger::RegionRecord& record, Strength strength = Strength::power) {
    return harness_.run(ledger_->put(record, strength));
  }

  /// What the next start would find if the process were killed now.
  std::vector<broker::ledger::RegionRecord> found() {
    MemoryMedium copy({medium_->bytes().begin(), medium_->bytes().end()});
    auto opened = broker::ledger::recover(copy);
    EXPECT_TRUE(opened);
    return std::move(opened.value().recovered.regions);
  }

  static constexpr std::size_t kCapacity = 16;
  LoopHarness harness_;
  std::shared_ptr<RecordingMedium> medium_ =
      std::make_shared<RecordingMedium>(Granularity::page, empty_ledger(kCapacity), empty_ledger(kCapacity));
  std::unique_ptr<broker::ledger::Ledger> ledger_;
};

// Promise 8
TEST_F(LedgerFailure, AFailedMsyncRefusesTheChangeAndKeepsTheOldRecord) {
  broker::ledger::RegionRecord record = region(1);
  ASSERT_TRUE(put(record));
  const broker::ledger::RegionRecord before = record;
  record.extent = 2;
  medium_->fail_syncs(1);
  const auto refused = put(record);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::io);
  EXPECT_THAT(refused.error().sentence, testing::HasSubstr("Input/output error"));
  EXPECT_THAT(found(), testing::ElementsAre(before));
  EXPECT_TRUE(put(record));
  EXPECT_THAT(found(), testing::ElementsAre(record));
}

// Promise 8
TEST_F(LedgerFailure, AFailedMsyncRefusesTheEraseAndKeepsTheRecord) {
  const broker::ledger::RegionRecord record = region(1);
  ASSERT_TRUE(put(record));
  medium_->fail_syncs(1);
  EXPECT_FALSE(harness_.run(ledger_->erase(record.id, Strength::power)));
  EXPECT_THAT(found(), testing::ElementsAre(record));
  EXPECT_TRUE(harness_.run(ledger_->erase(record.id, Strength::power)));
  EXPECT_THAT(found(), testing::IsEmpty());
}

TEST_F(LedgerFailure, ADiskThatKeepsFailingLeavesVolatileRegionsWorking) {
  medium_->fail_syncs(std::numeric_limits<int>::max());
  for (int i = 0; i < 40; ++i) EXPECT_FALSE(put(region(1)));
  broker::ledger::RegionRecord record = region(2);
  EXPECT_TRUE(put(record, Strength::process));
  EXPECT_THAT(found(), testing::ElementsAre(record));
  medium_->fail_syncs(0);
  EXPECT_TRUE(put(region(3)));
}

TEST_F(LedgerFailure, AFullTableThatCannotGrowRefusesAndChangingAndErasingStillWork) {
  medium_->refuse_growth(true);
  std::vector<broker::ledger::RegionRecord> records;
  Result<void> last = ok();
  while (last && records.size() <= kCapacity) {
    records.push_back(region(records.size() + 1));
    last = put(records.back());
  }
  ASSERT_FALSE(last);
  records.pop_back();
  EXPECT_EQ(records.size(), kCapacity - 1) << "one slot is kept for changes of what is recorded";
  EXPECT_EQ(last.error().code, ErrorCode::io);
  EXPECT_THAT(last.error().sentence, testing::AllOf(testing::HasSubstr("is full (16 slots)"),
                                                    testing::HasSubstr("No space left on device")));
  EXPECT_THAT(found(), testing::UnorderedElementsAreArray(records));
  for (broker::ledger::RegionRecord& record : records) {
    record.extent += 1000;
    EXPECT_TRUE(put(record));
  }
  EXPECT_THAT(found(), testing::UnorderedElementsAreArray(records));
  // An erase needs no slot, and makes room for the next put.
  EXPECT_TRUE(harness_.run(ledger_->erase(records.back().id, Strength::power)));
  records.back() = region(99);
  EXPECT_TRUE(put(records.back()));
  medium_->refuse_growth(false);
  records.push_back(region(100));
  EXPECT_TRUE(put(records.back())) << "it grows as soon as there is space";
  EXPECT_THAT(found(), testing::UnorderedElementsAreArray(records));
}

TEST_F(LedgerFailure, ChangesThatArriveDuringAnMsyncShareTheNext) {
  const auto syncs = [this] {
    return std::count_if(medium_->events().begin(), medium_->events().end(),
                         [](const Event& event) { return event.kind == Event::Kind::sync_done; });
  };
  const auto before = syncs();
  auto all = [](broker::ledger::Ledger& to, std::vector<broker::ledger::RegionRecord> records,
                broker::Loop& loop) -> broker::Task<int> {
    std::size_t done = 0;
    for (broker::ledger::RegionRecord& record : records) {
      broker::spawn([](broker::ledger::Ledger& target, broker::ledger::RegionRecord one,
                       std::size_t& count) -> broker::Task<void> {
        EXPECT_TRUE(co_await target.put(std::move(one), Strength::power));
        ++count;
      }(to, std::move(record), done));
    }
    while (done < records.size()) co_await loop.yield();
    co_return 0;
  };
  std::vector<broker::ledger::RegionRecord> records;
  for (std::uint64_t i = 0; i < 12; ++i) records.push_back(region(i));
  harness_.run(all(*ledger_, records, harness_.loop));
  EXPECT_EQ(syncs() - before, 2) << "one for the first, one for the eleven that came while it ran";
  EXPECT_THAT(found(), testing::UnorderedElementsAreArray(records));
}

}  // namespace
}  // namespace mapcap::test
