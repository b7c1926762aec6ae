// Endpoints in the ledger: several slots, of which one says that they are there.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "broker/ledger/recovery.h"
#include "broker/ledger/table/record_layout.h"
#include "tests/support/loop_harness.h"
#include "tests/support/memory_medium.h"

namespace mapcap::broker::ledger {
namespace {

EndpointRecord full(std::uint64_t number) {
  EndpointRecord record;
  record.number = number;
  record.id = std::string(64, 'e');
  record.state = EndpointState::ending;
  record.principal = 0xC0000001;
  record.maker = 1000;
  record.maker_group = 1001;
  record.maker_administrator = true;
  record.on_end = OnEnd::keep;
  record.rights = Access::read_only;
  record.revoke_opened = true;
  record.limits = {1, std::nullopt, 0, 18'446'744'073'709'551'615ULL};
  record.ttl_ns = 7;
  record.boot.fill(9);
  record.created_unix_ns = 11;
  record.expires_boot_ns = 12;
  record.expires_unix_ns = 13;
  for (int i = 0; i < 12; ++i) record.names.push_back(std::string(100, 'n') + std::to_string(i) + "/**");
  record.pools = {"dram", "pmem"};
  record.verbs = {"open", "list"};
  record.labels = {{"namespace", "db"}, {"app.kubernetes.io/name", "x"}};
  record.groups = {50, 4294967294};
  return record;
}

class LedgerEndpoint : public testing::Test {
 protected:
  void SetUp() override { open(); }
  void open() {
    ledger_.reset();
    medium_ = std::make_shared<test::MemoryMedium>(bytes_.empty() ? test::empty_ledger(64) : bytes_);
    auto opened = open_on(medium_, harness_.loop, harness_.worker);
    ASSERT_TRUE(opened) << opened.error().sentence;
    ledger_ = std::move(opened.value());
  }
  void reopen() {
    bytes_ = medium_->contents();
    open();
  }
  EndpointRecord put(EndpointRecord record) {
    EXPECT_TRUE(harness_.run(ledger_->put_endpoint(record)));
    return record;
  }

  test::LoopHarness harness_;
  std::vector<std::byte> bytes_;
  std::shared_ptr<test::MemoryMedium> medium_;
  std::unique_ptr<Ledger> ledger_;
};

TEST_F(LedgerEndpoint, EveryFieldComesBack) {
  const EndpointRecord record = put(full(ledger_->next_id().value));
  EXPECT_GT(texts_for(text_of(record).value().size()), 5U) << "the sample takes few slots";
  reopen();
  EXPECT_THAT(ledger_->take_recovered().endpoints, testing::ElementsAre(record));
}

TEST_F(LedgerEndpoint, OneWithoutAnyListComesBack) {
  EndpointRecord record;
  record.number = ledger_->next_id().value;
  record.id = "e";
  put(record);
  reopen();
  EXPECT_THAT(ledger_->take_recovered().endpoints, testing::ElementsAre(record));
}

TEST_F(LedgerEndpoint, AnUpdateChangesWhatMayChangeAndTakesNoMoreRoom) {
  EndpointRecord record = put(full(ledger_->next_id().value));
  const std::size_t before = read(*medium_).value().scan.live.size();
  record.state = EndpointState::ended;
  record.expires_boot_ns = 99;
  put(record);
  EXPECT_EQ(read(*medium_).value().scan.live.size(), before);
  reopen();
  record.state = EndpointState::active;
  put(record);
  reopen();
  EXPECT_THAT(ledger_->take_recovered().endpoints, testing::ElementsAre(record));
}

TEST_F(LedgerEndpoint, NothingIsLeftOfOneThatWasErased) {
  const EndpointRecord record = put(full(ledger_->next_id().value));
  EXPECT_TRUE(harness_.run(ledger_->erase_endpoint(record.number)));
  EXPECT_EQ(read(*medium_).value().scan.live.size(), 0U);
  reopen();
  EXPECT_TRUE(ledger_->take_recovered().endpoints.empty());
}

TEST_F(LedgerEndpoint, WhatDoesNotFitIsRefusedBeforeAnythingIsWritten) {
  EndpointRecord record = full(ledger_->next_id().value);
  record.names.assign(64, std::string(100, 'n'));
  EXPECT_FALSE(harness_.run(ledger_->put_endpoint(record)));
  record.names = {"two\nlines"};
  EXPECT_FALSE(harness_.run(ledger_->put_endpoint(record)));
  record.names = {"x"};
  record.id = "NO";
  EXPECT_FALSE(harness_.run(ledger_->put_endpoint(record)));
  EXPECT_EQ(read(*medium_).value().scan.live.size(), 0U);
}

TEST_F(LedgerEndpoint, AnAuthorityOfWhichAPartIsDamagedIsNoAuthority) {
  put(full(ledger_->next_id().value));
  const std::vector<std::byte> whole = medium_->contents();
  std::size_t slots = 0;
  for (std::size_t at = kSlotsOffset; at + kSlotSize <= whole.size(); at += kSlotSize) {
    std::vector<std::byte> bytes = whole;
    if (load64(bytes, at) == 0) continue;
    ++slots;
    bytes[at + 100] ^= std::byte{1};
    test::MemoryMedium medium(std::move(bytes));
    const auto opened = recover(medium);
    ASSERT_TRUE(opened);
    EXPECT_TRUE(opened.value().recovered.endpoints.empty());
    EXPECT_GE(opened.value().recovered.damaged, 1U) << "it is told, and its record stays";
  }
  EXPECT_GT(slots, 5U);
}

}  // namespace
}  // namespace mapcap::broker::ledger
