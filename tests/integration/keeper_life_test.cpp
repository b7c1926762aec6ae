// Who outlives whom: grants, keeper, broker.
#include <sys/stat.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <set>

#include "tests/support/busy_machine.h"
#include "tests/support/keeper_life.h"

namespace mapcap::test {
namespace {

TEST_F(KeeperLife, KeeperHasNeitherPrivilegesNorTheBrokersDescriptors) {
  REQUIRE_CLONES();
  drive([&](Loop& loop) -> Task<void> {
    auto keeper = start();
    CO_ASSERT(keeper != nullptr);
    keeper->attach(loop);
    EXPECT_FALSE(keeper->adopted());
    EXPECT_EQ(keeper->clone_unavailable(), "");
    const pid_t pid = keeper->pid();
    EXPECT_EQ(status_of(pid, "Name"), "mapcapd-keeper");
    for (const char* set : {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"}) {
      EXPECT_EQ(status_of(pid, set), "0000000000000000") << set;
    }
    EXPECT_EQ(status_of(pid, "NoNewPrivs"), "1");
    EXPECT_EQ(status_of(pid, "Seccomp"), "2");
    EXPECT_EQ(::getsid(pid), pid);
    EXPECT_EQ(co_await own_descriptors(loop, *keeper), 8U);
    struct stat status {};
    EXPECT_EQ(::stat((options.state_directory + "/keeper.sock").c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777U, 0600U);
    keeper->shut_down();
    EXPECT_TRUE(gone(pid));
    EXPECT_FALSE(std::filesystem::exists(options.state_directory + "/keeper.sock"));
    co_return;
  });
}

// Promise 7: exact, by FORGET.
TEST_F(KeeperLife, GrantIsReleasedWhenItsLastDescriptorAndMappingAreGone) {
  REQUIRE_CLONES();
  with_keeper([&](Loop& loop, Keeper& keeper) -> Task<void> {
    std::multiset<GrantId> released;
    keeper.on_release([&](GrantId grant) { released.insert(grant); });
    const Fd fd = memory(kSize);

    for (const Access rights : {Access::read_write, Access::read_only}) {
      auto closed = co_await attach_and_issue(keeper, RegionId{1}, fd.borrow(), rights);
      CO_ASSERT(closed);
      const GrantId first = closed.value().grant;
      closed.value().fd.reset();
      EXPECT_TRUE(co_await eventually(loop, [&] { return released.contains(first); }));
    }

    auto mapped = co_await attach_and_issue(keeper, RegionId{1}, fd.borrow(), Access::read_write);
    CO_ASSERT(mapped);
    const GrantId second = mapped.value().grant;
    int* bytes = map(mapped.value().fd.borrow());
    CO_ASSERT(bytes != nullptr);
    mapped.value().fd.reset();
    co_await loop.sleep(std::chrono::milliseconds(50));
    EXPECT_FALSE(released.contains(second)) << "a mapping still holds it";
    bytes[0] = 7;
    ::munmap(bytes, kSize.value);
    EXPECT_TRUE(co_await eventually(loop, [&] { return released.contains(second); }));
    EXPECT_EQ(released.size(), 3U);
  });
}

TEST_F(KeeperLife, GrantIsReleasedWithinAHundredMillisecondsOfItsHoldersDeath) {
  REQUIRE_CLONES();
  VirtualTime still;  // The broker asks nobody: none of its time passes.
  with_keeper(still, [&](Loop& loop, Keeper& keeper) -> Task<void> {
    GrantId released = 0;
    keeper.on_release([&](GrantId grant) { released = grant; });
    const Fd fd = memory(kSize);
    auto fastest = FairStopwatch::Clock::duration::max();
    // The best of ten: what the keeper adds, rather than what a busy machine does.
    for (int attempt = 0; attempt < 10; ++attempt) {
      auto issued = co_await attach_and_issue(keeper, RegionId{1}, fd.borrow(), Access::read_write);
      CO_ASSERT(issued);
      const GrantId grant = issued.value().grant;
      int ready[2] = {-1, -1};
      CO_ASSERT(::pipe2(ready, O_CLOEXEC) == 0);
      const pid_t holder = ::fork();
      if (holder == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        volatile int* bytes = map(issued.value().fd.borrow());
        bytes[1] = 42;
        (void)!::write(ready[1], "x", 1);
        for (;;) ::pause();
      }
      issued.value().fd.reset();
      char byte = 0;
      EXPECT_EQ(::read(ready[0], &byte, 1), 1);
      for (const int end : ready) ::close(end);
      KernelTime kernel(loop);
      (void)co_await kernel.pass(std::chrono::milliseconds(10));
      EXPECT_NE(released, grant) << "the holder lives";
      const FairStopwatch stopwatch;
      ::kill(holder, SIGKILL);
      const bool gone_now = co_await eventually(loop, [&] { return released == grant; });
      fastest = std::min(fastest, stopwatch.took());
      EXPECT_TRUE(gone_now);
      ::waitpid(holder, nullptr, 0);
    }
    // The charge must end within 100 ms without any poll by the user.
    EXPECT_LT(fastest, std::chrono::milliseconds(100));
  });
}

// Promise 9
TEST_F(KeeperLife, NextBrokerAdoptsWhatAKilledOneLeft) {
  REQUIRE_CLONES();
  StandIn broker(options, 1, 3);
  std::vector<StandIn::Given> grants;
  for (int i = 0; i < 3; ++i) {
    auto given = broker.next();
    ASSERT_TRUE(given);
    grants.push_back(std::move(*given));
  }
  ASSERT_TRUE(broker.kill());
  int* bytes = map(grants[0].fd.borrow());
  ASSERT_NE(bytes, nullptr);
  bytes[0] = 4711;
  char byte = 0;
  EXPECT_EQ(::read(grants[0].fd.get(), &byte, 1), -1);
  EXPECT_EQ(errno, EPERM) << "the keeper answers without a broker";

  drive([&](Loop& loop) -> Task<void> {
    auto keeper = start();
    CO_ASSERT(keeper != nullptr);
    EXPECT_TRUE(keeper->adopted());
    EXPECT_EQ(keeper->pid(), grants[0].told.keeper);
    std::set<GrantId> released;
    keeper->on_release([&](GrantId grant) { released.insert(grant); });
    keeper->attach(loop);
    std::vector<HeldMemory> held = keeper->take_held();
    EXPECT_EQ(held.size(), 3U);
    std::set<GrantId> live;
    for (const LiveGrant& grant : keeper->take_live_grants()) {
      EXPECT_EQ(grant.holder, (broker::confine::Holder{65534, 65533}));
      live.insert(grant.grant);
    }
    for (const StandIn::Given& given : grants) EXPECT_TRUE(live.contains(given.told.grant));

    const auto first = std::find_if(held.begin(), held.end(),
                                    [](const HeldMemory& memory) { return memory.region == RegionId{1}; });
    CO_ASSERT(first != held.end());
    int* own = map(first->fd.borrow());
    CO_ASSERT(own == nullptr || own[0] == 4711);  // The append flag may refuse the mapping.
    auto issued = co_await attach_and_issue(*keeper, RegionId{1}, first->fd.borrow(), Access::read_write);
    CO_ASSERT(issued);
    EXPECT_FALSE(live.contains(issued.value().grant));
    const int* again = map(issued.value().fd.borrow());
    CO_ASSERT(again != nullptr);
    EXPECT_EQ(again[0], 4711);

    // A grant of the dead broker is tracked by this one.
    grants[1].fd.reset();
    EXPECT_TRUE(co_await eventually(loop, [&] { return released.contains(grants[1].told.grant); }));
    keeper->shut_down();
  });
  ::munmap(bytes, kSize.value);
}

TEST_F(KeeperLife, SecondBrokerIsRefusedAlsoWhileTheFirstIsStopped) {
  REQUIRE_CLONES();
  StandIn first(options, 1, 1);
  ASSERT_TRUE(first.next());
  ::kill(first.pid(), SIGSTOP);
  auto second = Keeper::adopt_or_start(options);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::busy);
  EXPECT_NE(second.error().sentence.find(std::to_string(first.pid())), std::string::npos);
}

TEST_F(KeeperLife, StoppedKeeperIsWokenForAdoption) {
  REQUIRE_CLONES();
  options.wake_after = std::chrono::milliseconds(100);
  StandIn first(options, 1, 1);
  const auto given = first.next();
  ASSERT_TRUE(given);
  ::kill(given->told.keeper, SIGSTOP);
  first.begin_to_kill();  // In the middle of a request, as likely as not.
  auto second = start();
  ASSERT_NE(second, nullptr);
  EXPECT_TRUE(second->adopted());
  EXPECT_EQ(second->take_held().size(), 1U);
  second->shut_down();
}

TEST_F(KeeperLife, DroppedMemoryIsLetGo) {
  REQUIRE_CLONES();
  with_keeper([&](Loop& loop, Keeper& keeper) -> Task<void> {
    const std::size_t before = co_await own_descriptors(loop, keeper);
    const Fd fd = memory(kSize);
    CO_ASSERT((co_await keeper.hold(RegionId{1}, fd.borrow())).has_value());
    EXPECT_TRUE(co_await eventually(loop, [&] { return descriptors_of(keeper.pid()) == before + 1; }));
    keeper.drop(RegionId{1});
    EXPECT_TRUE(co_await eventually(loop, [&] { return descriptors_of(keeper.pid()) == before; }));
  });
}

TEST_F(KeeperLife, IdleKeeperEndsAndTheNextBrokerStartsAnother) {
  REQUIRE_CLONES();
  options.idle = std::chrono::seconds(1);
  pid_t pid = 0;
  {
    auto first = start();
    ASSERT_NE(first, nullptr);
    pid = first->pid();
  }
  EXPECT_TRUE(comes_true([&] { return gone(pid); }));
  ::waitpid(pid, nullptr, WNOHANG);
  auto second = start();
  ASSERT_NE(second, nullptr);
  EXPECT_FALSE(second->adopted());
  second->shut_down();
}

// Promise 9: kill -9 of the broker, of the keeper, and of both, under load.
TEST_F(KeeperLife, TwentyKillsLeaveNobodyHangingAndNoMappingBroken) {
  REQUIRE_CLONES();
  constexpr int kRounds = 21;  // Seven of each kind.
  std::uint64_t region = 1;
  pid_t survivor = 0;
  for (int round = 0; round < kRounds; ++round) {
    StandIn broker(options, region, 4);
    region += 4;
    std::vector<std::pair<StandIn::Given, int*>> grants;
    for (int i = 0; i < 4; ++i) {
      auto given = broker.next();
      ASSERT_TRUE(given) << "round " << round;
      int* bytes = map(given->fd.borrow());
      ASSERT_NE(bytes, nullptr);
      bytes[0] = round;
      grants.emplace_back(std::move(*given), bytes);
    }
    const pid_t keeper = grants[0].first.told.keeper;
    EXPECT_TRUE(survivor == 0 || keeper == survivor) << "round " << round << ": not adopted";
    ::usleep(static_cast<useconds_t>(round * 700));
    const bool kill_keeper = round % 3 != 0;
    const bool kill_broker = round % 3 != 1;
    if (kill_keeper) ::kill(keeper, SIGKILL);
    EXPECT_TRUE(!kill_broker || broker.kill()) << "round " << round << ": broker does not die";
    for (auto& [given, bytes] : grants) {
      EXPECT_EQ(bytes[0], round);
      bytes[1] = round;
      // Refused by the keeper, or failing with the connection; a hang is ended by the test's time limit.
      char byte = 0;
      EXPECT_EQ(::read(given.fd.get(), &byte, 1), -1);
      ::munmap(bytes, kSize.value);
    }
    survivor = kill_keeper ? 0 : keeper;
    if (kill_keeper) {
      EXPECT_TRUE(comes_true([&] { return gone(keeper); }))
          << "round " << round << ": state " << state_of(keeper);
    }
    EXPECT_TRUE(broker.kill());
    // Where the keeper alone was killed, the broker started another, which this round's end leaves behind.
    if (kill_keeper && !kill_broker) survivor = 0;
    if (!kill_broker) {
      if (auto left = Keeper::adopt_or_start(options)) left.value()->shut_down();
    }
  }
}

}  // namespace
}  // namespace mapcap::test
