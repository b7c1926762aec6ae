// Promise 7, seen from the holder: who keeps a mapping of a revoked region keeps its owner charged, on every
// backend, also after the keeper that tracked its grant has died; and within 100 ms of the holder's end the
// charge has ended, although nobody asks.
//
// Each round asks once, 100 ms after the holder is gone, in which nobody had to wait for the machine. That is an
// estimate, so more than half of the rounds must be in time, and all in the end.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "tests/support/backends.h"
#include "tests/support/broker_process.h"
#include "tests/support/busy_machine.h"
#include "tests/support/patience.h"

namespace mapcap::test {
namespace {

using namespace std::chrono_literals;

enum class Upset {
  none,
  keeper_dies,          ///< Nobody tells any more when the grant ends: it must be found out.
  broker_dies,          ///< The next broker hears from the keeper it adopts.
  both_die_in_turn,     ///< Keeper, then broker: the new ones know nothing of the grant.
  dies_while_draining,  ///< The broker, after the revoke.
};

struct Case {
  Backend backend;
  Upset upset;
};

constexpr std::uint64_t kSize = 2U << 20U;

class AccountingTest : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (const std::string missing = what_lacks(GetParam().backend); !missing.empty()) GTEST_SKIP() << missing;
    scratch_ = std::make_unique<BackendScratch>(GetParam().backend);
    broker_ = std::make_unique<BrokerProcess>(scratch_->policy("64M"));
    broker_->start();
  }
  void TearDown() override { end_holder(); }

  /// A process that maps "root/held" and stores to it for ever.
  void start_holder() {
    std::array<int, 2> ready{};
    ASSERT_EQ(::pipe2(ready.data(), O_CLOEXEC), 0);
    holder_ = ::fork();
    if (holder_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      try {
        std::optional<Mapping> mapping;
        {
          Client client = broker_->connect();
          mapping.emplace(client.open("root/held", Access::read_write));
        }
        mapping->writable()[0] = std::byte{1};
        (void)::write(ready[1], "x", 1);
        for (;;) ::pause();
      } catch (const std::exception& error) {
        std::fprintf(stderr, "holder: %s\n", error.what());
      }
      ::_exit(1);
    }
    ::close(ready[1]);
    char byte = 0;
    ASSERT_EQ(::read(ready[0], &byte, 1), 1) << "the holder never got its mapping";
    ::close(ready[0]);
  }
  void end_holder() {
    if (holder_ <= 0) return;
    ::kill(holder_, SIGKILL);
    ::waitpid(holder_, nullptr, 0);
    holder_ = 0;
  }

  /// Returns when the new keeper holds what the old one held: only then may the broker die without a loss.
  void replace_keeper() {
    const std::size_t before = replacements();
    broker_->kill_keeper();
    ASSERT_TRUE(comes_true([&] { return replacements() > before; })) << broker_->log();
    broker_->connect().list();  // Answered after what the loop was doing.
  }
  [[nodiscard]] std::size_t replacements() const {
    const std::string log = broker_->log();
    std::size_t count = 0;
    for (std::size_t at = log.find("a new keeper serves"); at != std::string::npos;
         at = log.find("a new keeper serves", at + 1))
      ++count;
    return count;
  }
  void restart_broker() {
    broker_->kill_broker();
    broker_->start();
  }
  void upset() {
    const Upset how = GetParam().upset;
    if (how == Upset::keeper_dies || how == Upset::both_die_in_turn) replace_keeper();
    if (how == Upset::broker_dies || how == Upset::both_die_in_turn) restart_broker();
  }

  static std::uint64_t used(Client& client) { return client.pools().front().used; }

  std::unique_ptr<BackendScratch> scratch_;
  std::unique_ptr<BrokerProcess> broker_;
  pid_t holder_ = 0;
};

TEST_P(AccountingTest, AChargeLastsAsLongAsAMappingAndEndsWithin100Milliseconds) {
  constexpr int kRounds = 3;
  int in_time = 0;
  for (int round = 0; round < kRounds; ++round) {
    {
      Client client = broker_->connect();
      RegionSpec wanted;
      wanted.name = "root/held";
      wanted.size = kSize;
      wanted.seal = seal_of(GetParam().backend);
      wanted.lifetime = Lifetime::persistent();
      client.create(wanted);
    }
    start_holder();
    if (HasFatalFailure()) return;
    upset();
    Client client = broker_->connect();
    client.revoke("root/held");
    if (GetParam().upset == Upset::dies_while_draining) {
      restart_broker();
      client = broker_->connect();
    }
    // As long as several probes take.
    std::this_thread::sleep_for(300ms);
    ASSERT_EQ(used(client), kSize) << "the charge ended while a mapping lived, in round " << round;
    end_holder();
    const FairStopwatch since_his_end;
    since_his_end.pass(100ms);
    if (used(client) == 0) ++in_time;
    ASSERT_TRUE(comes_true([&] { return used(client) == 0; }))
        << "the charge outlived its last holder, in round " << round;
  }
  EXPECT_GT(in_time, kRounds / 2) << "of " << kRounds << " charges ended within 100 ms of the last holder";
}

std::string name_of(const testing::TestParamInfo<Case>& info) {
  constexpr std::array<const char*, 5> kUpsets{"", "KeeperDies", "BrokerDies", "BothDieInTurn",
                                               "DiesWhileDraining"};
  return std::string(to_string(info.param.backend)) + kUpsets.at(static_cast<std::size_t>(info.param.upset));
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const Backend backend : kBackends) {
    for (const Upset upset : {Upset::none, Upset::keeper_dies, Upset::broker_dies, Upset::both_die_in_turn,
                              Upset::dies_while_draining})
      all.push_back({backend, upset});
  }
  return all;
}
INSTANTIATE_TEST_SUITE_P(Backends, AccountingTest, testing::ValuesIn(cases()), name_of);

/// What the shipped policy bounds each user by. A quarter is a quarter, and not one page less.
TEST(ShareOfAPool, IsItsShareToTheLastPage) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root: it starts mapcapd";
  BrokerProcess broker(
      "[pool.dram]\nbacking = \"memory\"\ncapacity = \"1M\"\nconfinement = \"sealed\"\n"
      "[[rule]]\nany = true\n[[quota]]\nany = true\nbytes = \"25%\"\n");
  broker.start();
  EXPECT_EQ(mapcap(broker, {"create", "a/all", "--size", "256K"}, 64001).status, 0);
  const CommandResult more = mapcap(broker, {"create", "a/more", "--size", "4K"}, 64001);
  EXPECT_EQ(more.status, 1);
  EXPECT_NE(more.err.find("256K used of 256K, 4K asked"), std::string::npos) << more.err;
  EXPECT_EQ(mapcap(broker, {"create", "b/all", "--size", "256K"}, 64002).status, 0)
      << "each has his own share";
}

}  // namespace
}  // namespace mapcap::test
