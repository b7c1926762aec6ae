// Promise 15, from then on: nobody is given a writable grant of a published region, over every restart; it can be taken
// away as any other; and a reader's own descriptor says that it is published, only when it is so.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <future>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/backends.h"
#include "tests/support/patience.h"
#include "tests/support/publish_harness.h"

namespace mapcap::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

using PublishedTest = PublishTest;

TEST_P(PublishedTest, ItStaysPublishedOverEveryRestart) {
  std::optional<Grant> before(reader());
  ASSERT_EQ(publish(kPatience), "published");
  const auto since = describe(before->fd())->published_unix;
  broker_.kill_broker();
  EXPECT_EQ(describe(before->fd())->published_unix, since) << "without a broker";
  broker_.start();
  expect_published();
  EXPECT_EQ(client().show(kName).region.published_unix, since);
  EXPECT_EQ(describe(before->fd())->published_unix, since);
  before.reset();
  const pid_t keeper = broker_.keeper_pid();
  broker_.kill_keeper();
  ASSERT_TRUE(comes_true([&] { return broker_.keeper_pid() != keeper && broker_.keeper_pid() != 0; }));
  expect_published();
  EXPECT_EQ(broker_.terminate(), 0);
  broker_.start();
  expect_published();
  EXPECT_EQ(client().show(kName).region.published_unix, since);
}

TEST_P(PublishedTest, AKeeperThatDiesAtAnyMomentChangesNothing) {
  for (int round = 0; round < 10; ++round) {
    const std::string name = "root/round" + std::to_string(round);
    RegionSpec wanted;
    wanted.name = name;
    wanted.size = 4096;
    wanted.seal = GetParam();
    wanted.lifetime = Lifetime::persistent();
    (void)client().create(wanted, Access::read_write);
    std::future<std::string> publishing = std::async(std::launch::async, [this, name] {
      return outcome([&] { broker_.connect().publish(name, kPatience); });
    });
    std::this_thread::sleep_for(std::chrono::microseconds(300 * round));
    const pid_t keeper = broker_.keeper_pid();
    broker_.kill_keeper();
    EXPECT_EQ(publishing.get(), "published");
    ASSERT_TRUE(comes_true([&] { return broker_.keeper_pid() != keeper && broker_.keeper_pid() != 0; }));
    const Grant after = client().open(name, Access::read_only);
    EXPECT_EQ(describe(after.fd())->published_unix, client().show(name).region.published_unix) << round;
    EXPECT_EQ(outcome([&] { (void)client().open(name, Access::read_write); }), "denied");
  }
}

TEST_P(PublishedTest, AKeeperThatIsLateSaysItAsSoonAsItSaysAnything) {
  const Grant before = reader();
  const pid_t keeper = broker_.keeper_pid();
  // What was written is forgotten first: it would not be while the keeper stands still.
  ASSERT_TRUE(comes_true([&] { return client().show(kName).region.grants == 1; }));
  ::kill(keeper, SIGSTOP);
  EXPECT_EQ(publish(kPatience), "published") << "it is recorded, and so it is";
  EXPECT_TRUE(client().show(kName).region.published_unix);
  ::kill(keeper, SIGCONT);
  EXPECT_TRUE(describe(before.fd())->published_unix);
}

TEST_P(PublishedTest, ARevokeTakesAPublishedRegionAway) {
  const Mapping holder(reader());
  ASSERT_EQ(publish(kPatience), "published");
  client().revoke(kName);
  std::array<std::byte, 4096> seen{};
  if (GetParam() == SealKind::revocable) {
    EXPECT_EQ(try_read(holder, 0, seen), Touch::revoked);
  } else {
    ASSERT_EQ(try_read(holder, 0, seen), Touch::done);
    EXPECT_TRUE(all_are(seen, std::byte{0}));
  }
  EXPECT_TRUE(client().list("root/**").empty() || client().list("root/**").at(0).state != RegionState::live);
}

TEST_P(PublishedTest, ItsChargeEndsWithItsLastReader) {
  std::optional<Mapping> holder(reader());
  ASSERT_EQ(publish(kPatience), "published");
  client().revoke(kName);
  EXPECT_EQ(client().pools().at(0).used, kSize);
  holder.reset();
  EXPECT_TRUE(comes_true([&] { return client().pools().at(0).used == 0; }));
}

TEST_P(PublishedTest, TheAttackTableFindsNothingOnIt) {
  ASSERT_EQ(publish(kPatience), "published");
  const Mapping holder(reader());
  const CommandResult table = mapcap(broker_, {"doctor", "--attack", kName, "--rights", "ro"});
  EXPECT_EQ(table.status, 0) << table.out << table.err;
  EXPECT_THAT(table.out, HasSubstr("0 holes, 0 broken"));
  EXPECT_NE(mapcap(broker_, {"doctor", "--attack", kName, "--rights", "rw"}).status, 0);
  EXPECT_TRUE(all_are(holder.bytes(), kOld));
  expect_published();
}

/// Readers ask their descriptors all the time while a writer stores until the last moment: what they read after it said
/// published never changes.
TEST_P(PublishedTest, AReadersDescriptionIsTrueAtEveryMoment) {
  constexpr int kRounds = 8;
  for (int round = 0; round < kRounds; ++round) {
    const std::string name = "root/race" + std::to_string(round);
    RegionSpec wanted;
    wanted.name = name;
    wanted.size = 4096;
    wanted.seal = GetParam();
    wanted.lifetime = Lifetime::persistent();
    std::optional<Grant> grant(client().create(wanted, Access::read_write));
    std::atomic<bool> started{false};
    std::thread writing([&] {
      auto* word = reinterpret_cast<std::atomic<std::uint64_t>*>(map(*grant));
      grant.reset();
      started = true;
      for (std::uint64_t i = 1; i < 200'000U * static_cast<unsigned>(round + 1); ++i) word->store(i);
      ::munmap(word, 4096);
    });
    while (!started) std::this_thread::yield();
    std::atomic<bool> over{false};
    std::atomic<int> changed{0};
    std::vector<std::thread> reading;
    for (int i = 0; i < 2; ++i) {
      reading.emplace_back([&, open = client().open(name, Access::read_only)] {
        const auto* word = reinterpret_cast<const std::atomic<std::uint64_t>*>(map(open, PROT_READ));
        std::optional<std::uint64_t> last;
        while (!over || !last) {
          if (!last && !describe(open.fd())->published_unix) continue;
          const std::uint64_t now = word->load();
          if (last && *last != now) ++changed;
          last = now;
        }
      });
    }
    EXPECT_EQ(outcome([&] { client().publish(name, kPatience); }), "published");
    writing.join();
    over = true;
    for (std::thread& one : reading) one.join();
    EXPECT_EQ(changed, 0) << "round " << round;
  }
}

INSTANTIATE_TEST_SUITE_P(Revocable, PublishedTest, testing::Values(SealKind::revocable));
INSTANTIATE_TEST_SUITE_P(Sealed, PublishedTest, testing::Values(SealKind::sealed));

// ---- death at each step

struct Death {
  const char* step;
  bool again;  ///< The next broker dies there, too.
};

class PublishDeathTest : public testing::TestWithParam<Death> {};

TEST_P(PublishDeathTest, WhatWasAcknowledgedIsSoAndNothingIsHalfPublished) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root: it starts mapcapd";
  BrokerProcess broker;
  broker.set_program(MAPCAPD_FAULTS_PATH);
  broker.set_environment({std::string("MAPCAP_DIE_AT=") + GetParam().step});
  broker.start();
  ConnectOptions options;
  options.reconnect_within = 0ms;
  std::optional<Grant> old;
  {
    Client client = broker.connect(options);
    RegionSpec wanted;
    wanted.name = kName;
    wanted.size = kSize;
    wanted.lifetime = Lifetime::persistent();
    {
      Mapping mapping(client.create(wanted, Access::read_write));
      std::fill(mapping.writable().begin(), mapping.writable().end(), kOld);
    }
    old.emplace(client.open(kName, Access::read_only));
    EXPECT_EQ(outcome([&] { client.publish(kName, kPatience); }), "unavailable")
        << "it dies before it answers";
  }
  ASSERT_TRUE(broker.await_end());
  if (!GetParam().again) broker.set_environment({});
  if (broker.start_if_it_lives()) {
    if (GetParam().again) broker.kill_broker();
  }
  if (GetParam().again) {
    broker.set_environment({});
    broker.start();
  }
  // The seal is there, and stays: so the publish was carried out.
  Client client = broker.connect(options);
  std::optional<std::chrono::nanoseconds> since;
  EXPECT_TRUE(comes_true([&] {
    since = client.show(kName).region.published_unix;
    return since.has_value();
  }));
  EXPECT_EQ(outcome([&] { (void)client.open(kName, Access::read_write); }), "denied");
  EXPECT_EQ(outcome([&] { client.publish(kName, kPatience); }), "published");
  EXPECT_EQ(describe(old->fd())->published_unix, since) << "a grant of before";
  const Mapping mapping(*old);
  EXPECT_TRUE(all_are(mapping.bytes(), kOld));
}

std::string name_of_death(const testing::TestParamInfo<Death>& info) {
  return std::string(info.param.step) + (info.param.again ? "_again" : "");
}
INSTANTIATE_TEST_SUITE_P(Steps, PublishDeathTest,
                         testing::Values(Death{"unwritable", false}, Death{"published", false},
                                         Death{"told", false}, Death{"published", true}, Death{"told", true}),
                         name_of_death);

// ---- where nobody could tell

class UnpublishableTest : public testing::TestWithParam<Backend> {
 protected:
  static const char* reason() {
    switch (GetParam()) {
      case Backend::huge:
        return "huge pages carry no seals";
      case Backend::secret:
        return "nobody could read what is published";
      case Backend::unconfined:
        return "its holders get the memory itself";
      default:
        return "whether pages of a file are still pinned for writing";
    }
  }
};

TEST_P(UnpublishableTest, IsRefusedWithTheReasonAndStaysAsItWas) {
  if (const std::string missing = what_lacks(GetParam()); !missing.empty()) GTEST_SKIP() << missing;
  const BackendScratch scratch(GetParam());
  BrokerProcess broker(scratch.policy("64M"));
  broker.start();
  Client client = broker.connect();
  RegionSpec wanted;
  wanted.name = kName;
  wanted.size = 2U << 20U;
  wanted.seal = seal_of(GetParam());
  wanted.lifetime = Lifetime::persistent();
  client.create(wanted);
  (void)client.open(kName, Access::read_write);
  try {
    client.publish(kName, 5s);
    ADD_FAILURE() << "published, though nobody can tell whether somebody still writes it";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::unsupported) << error.what();
    EXPECT_THAT(error.what(), AllOf(HasSubstr("cannot be published"), HasSubstr(reason())));
  }
  EXPECT_FALSE(client.show(kName).region.published_unix);
  EXPECT_NO_THROW((void)client.open(kName, Access::read_write));
}

std::string name_of_backend(const testing::TestParamInfo<Backend>& info) {
  return to_string(info.param);
}
INSTANTIATE_TEST_SUITE_P(Backends, UnpublishableTest,
                         testing::Values(Backend::huge, Backend::secret, Backend::unconfined,
                                         Backend::file_on_tmpfs, Backend::file_on_disk),
                         name_of_backend);

// ---- the command line, and who demands it

TEST(PublishCommand, FillsAndPublishesInOneGo) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root: it starts mapcapd";
  BrokerProcess broker;
  broker.start();
  ASSERT_EQ(mapcap(broker, {"create", kName, "--size", "64K"}).status, 0);
  const CommandResult filled =
      mapcap(broker, {"--json", "fill", kName, "/etc/hostname", "--publish", "--within", "1m"});
  EXPECT_EQ(filled.status, 0) << filled.err;
  EXPECT_THAT(filled.out, HasSubstr("\"published\":true"));
  EXPECT_THAT(mapcap(broker, {"list"}).out, HasSubstr("published"));
  EXPECT_THAT(mapcap(broker, {"show", kName}).out, HasSubstr("nobody can write it any more"));
  EXPECT_THAT(mapcap(broker, {"--json", "publish", kName, "--within", "1m"}).out,
              HasSubstr("\"published_unix_ns\":1"));
  const CommandResult again = mapcap(broker, {"--json", "fill", kName, "/etc/hostname"});
  EXPECT_EQ(again.status, 1);
  EXPECT_THAT(again.out, HasSubstr("\"denied\""));
}

TEST(PublishCommand, APolicyCanDemandIt) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root: it starts mapcapd";
  constexpr const char* kPolicy = R"([pool.dram]
backing = "memory"
capacity = "64M"
[[rule]]
administrator = true
[[rule]]
any = true
verbs = ["open", "list", "show"]
rights = ["ro"]
names = ["**"]
published = "required"
)";
  BrokerProcess broker(kPolicy);
  broker.start();
  ASSERT_EQ(mapcap(broker, {"create", kName, "--size", "64K", "--mode", "0644"}).status, 0);
  const auto opens = [&] {
    return as_user(64001, [&] {
      const std::string refused = outcome([&] { (void)broker.connect().open(kName, Access::read_only); });
      return refused == "published" ? 0 : refused == "denied" ? 1 : 2;
    });
  };
  EXPECT_EQ(opens(), 1);
  ASSERT_EQ(mapcap(broker, {"publish", kName, "--within", "1m"}).status, 0);
  EXPECT_EQ(opens(), 0);
}

}  // namespace
}  // namespace mapcap::test
