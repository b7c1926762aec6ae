// A publish that waits: whom it keeps waiting, what is left when nobody wants it any more, and a ledger that refuses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <optional>
#include <thread>

#include "tests/support/patience.h"
#include "tests/support/regions_harness.h"

namespace mapcap::test {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

constexpr Lifetime kPersistent{LifetimeKind::persistent, 0ns};

/// Says that it makes clones, of which only the broker can add seals.
class NoClones final : public broker::confine::Confiner {
 public:
  [[nodiscard]] Confinement kind() const override { return Confinement::clone; }
  [[nodiscard]] bool tracks_grants() const override { return true; }
  Result<void> attach(RegionId, BorrowedFd, ByteCount, broker::confine::Backing) override { return ok(); }
  [[nodiscard]] bool guards_holes(RegionId) const override { return true; }
  broker::Task<Result<broker::confine::Issued>> issue(RegionId, broker::confine::Label, BorrowedFd,
                                                      broker::confine::Backing) override {
    co_return failure(ErrorCode::unavailable, "a test needs none");
  }
  void detach(RegionId) override {}
};

/// Refuses as many changes as it is told to.
class RefusingLedger final : public broker::ledger::Ledger {
 public:
  RefusingLedger(std::unique_ptr<Ledger> real, std::size_t& refusals)
      : real_(std::move(real)), refusals_(refusals) {}
  [[nodiscard]] std::uint32_t identity() const override { return real_->identity(); }
  broker::ledger::Recovered take_recovered() override { return real_->take_recovered(); }
  RegionId next_id() override { return real_->next_id(); }
  broker::Task<Result<void>> put(broker::ledger::RegionRecord record,
                                 broker::ledger::Strength strength) override {
    if (refusals_ == 0) {
      Result<void> done = co_await real_->put(std::move(record), strength);
      co_return done;
    }
    --refusals_;
    co_return failure(ErrorCode::io, "a test asks it to refuse");
  }
  broker::Task<Result<void>> erase(RegionId id, broker::ledger::Strength strength) override {
    return real_->erase(id, strength);
  }
  broker::Task<Result<void>> put_quota(broker::ledger::QuotaRecord record) override {
    return real_->put_quota(std::move(record));
  }
  broker::Task<Result<void>> erase_quota(SubjectKind subject, std::uint32_t id, std::string pool) override {
    return real_->erase_quota(subject, id, std::move(pool));
  }
  broker::Task<Result<void>> put_endpoint(broker::ledger::EndpointRecord record) override {
    return real_->put_endpoint(std::move(record));
  }
  broker::Task<Result<void>> erase_endpoint(std::uint64_t number) override {
    return real_->erase_endpoint(number);
  }
  void on_trouble(std::function<void(const Failure*)> told) override { real_->on_trouble(std::move(told)); }
  [[nodiscard]] const std::optional<Failure>& trouble() const override { return real_->trouble(); }
  broker::Task<Result<void>> close() override { return real_->close(); }
  [[nodiscard]] Granularity granularity() const override { return real_->granularity(); }

 private:
  std::unique_ptr<Ledger> real_;
  std::size_t& refusals_;
};

class PublishingTest : public RegionsTest {
 protected:
  PublishingTest()
      : RegionsTest(std::make_unique<NoClones>(), [this](AnyLedger real) {
          return std::make_unique<RefusingLedger>(std::move(real), refusals_);
        }) {}

  const Who alice_{1000, 1, {}};
  const Who bob_{2000, 2, {}};

  std::size_t refusals_ = 0;
};

/// The kernel waits for pinned pages on the thread that asks. A user has one such thread, and nobody else needs it.
TEST_F(PublishingTest, WhatWaitsInTheKernelKeepsNobodyElseWaiting) {
  std::atomic<bool> over{false};
  std::atomic<int> waiting{0};
  pool().on_forbid([&]() -> Result<void> {
    ++waiting;
    (void)comes_true([&] { return over.load(); });
    return ok();
  });
  pool().be_slow();  // Cuts go to a thread: the one that there is.
  ASSERT_TRUE(create(alice_, "a/one", kPersistent));
  ASSERT_TRUE(create(alice_, "a/two", kPersistent));
  ASSERT_TRUE(create(bob_, "b/one", kPersistent));
  std::optional<Result<void>> first;
  std::optional<Result<void>> second;
  broker::Asker asker;
  broker::Asker other;
  {
    const broker::Meter::Scope scope(loop().meter(), alice_.uid);
    broker::spawn(publish_beside(alice_, "a/one", asker, first));
    broker::spawn(publish_beside(alice_, "a/two", other, second));
  }
  ASSERT_TRUE(until([&] { return waiting == 1; }));
  EXPECT_TRUE(revoke(bob_, "b/one"));
  EXPECT_FALSE(over) << "and the publish still waits";
  EXPECT_EQ(waiting, 1) << "one of each user at a time";
  over = true;
  ASSERT_TRUE(until([&] { return first && second; }));
  EXPECT_TRUE(*first);
  EXPECT_TRUE(*second);
  ASSERT_TRUE(revoke(alice_, "a/one"));
  ASSERT_TRUE(revoke(alice_, "a/two"));
}

TEST_F(PublishingTest, WhoGoesMeanwhileLeavesItAsItWas) {
  pool().on_forbid([]() -> Result<void> {
    return failure(ErrorCode::busy, "a test says that pages are pinned", {{"by", "pins"}});
  });
  ASSERT_TRUE(create(alice_, "a/one", kPersistent));
  std::optional<Result<void>> answer;
  std::optional<Result<void>> others;
  broker::Asker asker;
  broker::Asker other;
  broker::spawn(publish_beside(alice_, "a/one", asker, answer));
  broker::spawn(publish_beside(alice_, "a/one", other, others));
  ASSERT_TRUE(until([&] { return pool().count("forbid_writing").elsewhere > 3; }));
  asker.leave();
  ASSERT_TRUE(until([&] { return answer.has_value(); }));
  EXPECT_EQ(answer->error().code, ErrorCode::busy);
  EXPECT_FALSE(others) << "who is still there goes on waiting";
  EXPECT_TRUE(directory().find("a/one")->closed_to_writers());
  other.leave();
  ASSERT_TRUE(until([&] { return others.has_value(); }));
  EXPECT_FALSE(directory().find("a/one")->closed_to_writers());
  pool().on_forbid({});
  EXPECT_TRUE(publish(alice_, "a/one"));
  ASSERT_TRUE(revoke(alice_, "a/one"));
}

TEST_F(PublishingTest, PinsAreToldWithWhoMayHaveThem) {
  pool().on_forbid([]() -> Result<void> {
    return failure(ErrorCode::busy, "a test says that pages are pinned", {{"by", "pins"}});
  });
  ASSERT_TRUE(create(alice_, "a/one", kPersistent));
  const auto nobody = publish(alice_, "a/one");
  ASSERT_FALSE(nobody);
  EXPECT_THAT(nobody.error().sentence, HasSubstr("does not tell who pins"));
  EXPECT_THAT(nobody.error().sentence, HasSubstr("somebody who had one"));
  broker::Amount one;
  one.grants = 1;
  auto charge = quotas().reserve({bob_.uid, bob_.uid, "dram"}, one);
  ASSERT_TRUE(charge);
  directory().track(*directory().find("a/one"), {7, Access::read_only, bob_.uid, std::move(charge.value())});
  const auto reader = publish(alice_, "a/one");
  ASSERT_FALSE(reader);
  EXPECT_THAT(reader.error().sentence, HasSubstr("it may be a reader; grants of it have user 2000 (ro)"));
  regions().released(7);
  ASSERT_TRUE(revoke(alice_, "a/one"));
}

/// The seal on the memory stays, so what the ledger refused becomes so: not at the next restart, but when it can.
TEST_F(PublishingTest, ALedgerThatRefusesIsAskedAgain) {
  ASSERT_TRUE(create(alice_, "a/one", kPersistent));
  refusals_ = 2;
  const auto refused = publish(alice_, "a/one");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::io);
  EXPECT_THAT(refused.error().sentence, HasSubstr("as soon as"));
  EXPECT_FALSE(directory().find("a/one")->published) << "nobody is told what is not recorded";
  EXPECT_TRUE(directory().find("a/one")->closed_to_writers());
  EXPECT_TRUE(until([&] { return directory().find("a/one")->published.has_value(); }));
  EXPECT_EQ(refusals_, 0U);
  ASSERT_TRUE(revoke(alice_, "a/one"));
}

}  // namespace
}  // namespace mapcap::test
