// A reload in this process: all of a new policy comes into force, or nothing of it, and whoever asked is told.
#include "broker/reload.h"

#include <gmock/gmock.h>

#include "broker/confine/sealed.h"
#include "tests/support/regions_harness.h"

namespace mapcap::test {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

constexpr const char* kEverything = "[[rule]]\nany=true\n";

std::string memory_pool(const std::string& name, const std::string& capacity, const std::string& more = "") {
  return "[pool." + name + "]\nbacking=\"memory\"\ncapacity=\"" + capacity + "\"\nconfinement=\"sealed\"\n" +
         more;
}

class ReloadTest : public RegionsTest {
 protected:
  ReloadTest() {
    regions().set_policy(examine(text_).policy);
    reload_.emplace(
        broker::Reload::Parts{loop(), worker(), worker(), worker(), regions(), quotas(), keeper(), report(),
                              pools(), [this](const policy::PoolSettings& one) { return open_pool(one); },
                              [](const policy::BrokerSettings&) {}},
        "p.toml", text_, [this] {
          broker::Reload::Loaded loaded;
          loaded.text = text_;
          loaded.examined = examine(text_);
          return loaded;
        });
    before_ = regions().shared_policy();
  }

  static policy::Examined examine(const std::string& text) {
    return policy::examine_text(text, "p.toml", policy::system_accounts());
  }

  Result<std::unique_ptr<broker::ServedPool>> open_pool(const policy::PoolSettings& settings) {
    opened_elsewhere_ = opened_elsewhere_ && std::this_thread::get_id() != here_;
    if (settings.name.starts_with("broken"))
      return failure(ErrorCode::invalid, settings.where + ": pool " + settings.name + " is broken");
    broker::pool::MemoryOptions memory;
    memory.name = settings.name;
    memory.capacity = std::get<ByteCount>(*settings.capacity);
    memory.seals = settings.seals;
    auto served = std::make_unique<broker::ServedPool>();
    served->pool = std::move(broker::pool::open_memory(std::move(memory)).value());
    served->confiner = confiner_.get();
    return served;
  }

  ReloadOutcome reload(const std::string& text) {
    text_ = text;
    return run(reload_->reload("user root")).value();
  }

  /// "LINE: message" of what is an error.
  static std::vector<std::string> errors(const ReloadOutcome& outcome) {
    std::vector<std::string> lines;
    for (const PolicyProblem& problem : outcome.problems) {
      if (!problem.warning) lines.push_back(std::to_string(problem.line) + ": " + problem.message);
    }
    return lines;
  }

  void expect_refused(const ReloadOutcome& outcome) {
    EXPECT_FALSE(outcome.in_force);
    EXPECT_TRUE(outcome.changes.empty());
    EXPECT_EQ(regions().shared_policy(), before_) << "something of it is in force";
    ASSERT_EQ(pools().size(), 1U);
    EXPECT_EQ(pools().front()->facts().capacity, 64_MiB);
    EXPECT_EQ(reload_->in_force(0).loaded_by, "start");
  }

  Result<schema::Granted> make(const std::string& name, ByteCount size, const std::string& in = "") {
    schema::Create ask;
    ask.name = name;
    ask.size = size.value;
    ask.pool = in;
    ask.lifetime = {LifetimeKind::persistent, 0ns};
    return create(Who{}, ask);
  }

  std::string text_ = memory_pool("dram", "64M") + kEverything;
  std::optional<broker::Reload> reload_;
  std::shared_ptr<const policy::Policy> before_;
  std::thread::id here_ = std::this_thread::get_id();
  bool opened_elsewhere_ = true;
  std::unique_ptr<broker::confine::Confiner> confiner_ = broker::confine::make_sealed();
};

TEST_F(ReloadTest, EveryProblemIsToldAndNothingChanges) {
  const ReloadOutcome outcome =
      reload(memory_pool("dram", "64M", "hug=1\n") + "[[rule]]\nany=true\nnmes=[\"a\"]\nverbs=[\"crete\"]\n");
  EXPECT_EQ(errors(outcome).size(), 3U);
  EXPECT_EQ(outcome.problems.front().line, 5U);
  expect_refused(outcome);
}

TEST_F(ReloadTest, WhatChangedIsToldByWhomItIsAbout) {
  const ReloadOutcome outcome = reload("[broker]\nkeeper_deadline=\"3s\"\n" + memory_pool("dram", "64M") +
                                       "[[rule]]\nuser=1000\n[[quota]]\nuser=1000\nregions=3\n");
  ASSERT_TRUE(outcome.in_force);
  std::vector<std::string> told;
  for (const PolicyChange& change : outcome.changes) told.push_back(change.what + " " + change.whom);
  EXPECT_THAT(told, testing::ElementsAre("rule removed any user", "rule added user 1000",
                                         "quota added uid 1000", "setting changed [broker]"));
  EXPECT_EQ(keeper().deadline, 3000ms) << "every key that can be is in force";
}

TEST_F(ReloadTest, TheOneInForceIsKnownByItsTextAndByWhoLoadedIt) {
  const schema::PolicyPiece first = reload_->in_force(0);
  EXPECT_EQ(first.text, text_);
  EXPECT_EQ(first.loaded_by, "start");
  ASSERT_TRUE(reload(text_ + "# more\n").in_force);
  const schema::PolicyPiece second = reload_->in_force(0);
  EXPECT_EQ(second.text, text_);
  EXPECT_EQ(second.loaded_by, "user root");
  EXPECT_NE(second.sha256, first.sha256);
  EXPECT_EQ(second.rules, 1U);
  EXPECT_EQ(reload_->in_force(text_.size() - 2).text, "e\n");
  EXPECT_EQ(reload_->in_force(1U << 30U).text, "");
}

TEST_F(ReloadTest, APoolGrowsInService) {
  EXPECT_EQ(make("a/large", 100_MiB).error().code, ErrorCode::pool_full);
  ASSERT_TRUE(reload(memory_pool("dram", "128M") + kEverything).in_force);
  EXPECT_EQ(pools().front()->facts().capacity, 128_MiB);
  EXPECT_TRUE(make("a/large", 100_MiB));
  ASSERT_TRUE(revoke({}, "a/large"));
}

TEST_F(ReloadTest, APoolIsAddedInService) {
  ASSERT_TRUE(reload(memory_pool("first", "32M") + memory_pool("dram", "64M") + kEverything).in_force);
  EXPECT_TRUE(opened_elsewhere_) << "it was opened on the loop";
  const auto made = make("a/one", 4_KiB);
  ASSERT_TRUE(made) << made.error().sentence;
  EXPECT_EQ(made.value().region.pool, "first") << "the first in the file's order";
  ASSERT_TRUE(make("a/two", 4_KiB, "dram"));
  for (const char* name : {"a/one", "a/two"}) ASSERT_TRUE(revoke({}, name));
  until([this] { return directory().size() == 0; });
  ASSERT_TRUE(reload(memory_pool("dram", "64M") + kEverything).in_force)
      << "and taken away when nothing is in it";
  EXPECT_EQ(make("a/one", 4_KiB, "first").error().code, ErrorCode::not_found);
}

TEST_F(ReloadTest, APoolThatCannotBeOpenedKeepsAllTheOthersOut) {
  const ReloadOutcome outcome =
      reload(memory_pool("fine", "1M") + memory_pool("broken1", "1M") + memory_pool("broken2", "1M") +
             memory_pool("dram", "128M") + kEverything);
  EXPECT_THAT(errors(outcome), testing::ElementsAre("5: [pool.broken1]: pool broken1 is broken",
                                                    "9: [pool.broken2]: pool broken2 is broken"));
  expect_refused(outcome);
}

TEST_F(ReloadTest, LessThanWhatIsInUseIsRefused) {
  ASSERT_TRUE(make("a/one", 8_MiB));
  const ReloadOutcome outcome = reload(memory_pool("dram", "4M") + kEverything);
  EXPECT_THAT(errors(outcome), testing::ElementsAre(HasSubstr("is less than what is in use, 8M")));
  expect_refused(outcome);
  EXPECT_TRUE(reload(memory_pool("dram", "8M") + kEverything).in_force);
  ASSERT_TRUE(revoke({}, "a/one"));
}

TEST_F(ReloadTest, APoolWithRegionsStays) {
  ASSERT_TRUE(make("a/one", 4_KiB));
  const ReloadOutcome outcome = reload(memory_pool("other", "64M") + kEverything);
  EXPECT_THAT(errors(outcome),
              testing::ElementsAre(HasSubstr("pool dram is not in the file any more, but 1 region")));
  expect_refused(outcome);
  ASSERT_TRUE(revoke({}, "a/one"));
}

TEST_F(ReloadTest, WhatTakesARestartIsNamedAllOfIt) {
  const ReloadOutcome outcome = reload("[broker]\nsocket=\"/run/other\"\nstate=\"/var/other\"\n" +
                                       memory_pool("dram", "64M", "populate=true\nnuma=0\n") + kEverything);
  const std::vector<std::string> told = errors(outcome);
  EXPECT_THAT(told, testing::ElementsAre("2: [broker]: socket changes only with a restart of mapcapd",
                                         "3: [broker]: state changes only with a restart of mapcapd",
                                         "4: [pool.dram]: populate changes only with a restart of mapcapd",
                                         "4: [pool.dram]: numa changes only with a restart of mapcapd"));
  expect_refused(outcome);
}

TEST_F(ReloadTest, MorePoolsThanTheMachineHasMemoryForAreRefused) {
  const ReloadOutcome outcome =
      reload(memory_pool("dram", "64M") + memory_pool("huge", "1000T") + kEverything);
  EXPECT_THAT(errors(outcome), testing::ElementsAre(HasSubstr("more than this machine's memory")));
  expect_refused(outcome);
}

}  // namespace
}  // namespace mapcap::test
