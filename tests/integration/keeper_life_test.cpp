// Who outlives whom: grants, keeper, broker.
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <set>

#include "tests/support/stand_in.h"

namespace mapcap::test {
namespace {

constexpr ByteCount kSize{8192};

class KeeperLife : public KeeperTest {
 protected:
  static std::string status_of(pid_t pid, const std::string& key) {
    std::ifstream file("/proc/" + std::to_string(pid) + "/status");
    for (std::string line; std::getline(file, line);) {
      if (line.starts_with(key + ":")) return line.substr(line.find_first_not_of(" \t", key.size() + 1));
    }
    return "";
  }

  /// 'D', 'S', 'Z', ...; 0 when there is no such process.
  static char state_of(pid_t pid) {
    const std::string state = status_of(pid, "State");
    return state.empty() ? '\0' : state.front();
  }
  static bool gone(pid_t pid) { return state_of(pid) == '\0' || state_of(pid) == 'Z'; }

  static Task<Result<Issued>> attach_and_issue(Keeper& keeper, RegionId region, BorrowedFd fd,
                                               Access rights) {
    const auto attached = keeper.clone().attach(region, fd, kSize);
    if (!attached) co_return attached.error();
    co_return co_await keeper.clone().issue(region, label(kSize, rights));
  }

  /// For tests with a short deadline: a busy machine may miss it once.
  static Task<Result<Issued>> issue_patiently(Keeper& keeper, RegionId region, BorrowedFd fd, Access rights) {
    Result<Issued> issued = schema::error(ErrorCode::unavailable, "");
    for (int attempt = 0; attempt < 50 && !issued; ++attempt) {
      issued = co_await attach_and_issue(keeper, region, fd, rights);
    }
    co_return issued;
  }

  static int* map(BorrowedFd fd) {
    void* at = ::mmap(nullptr, kSize.value, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
    return at == MAP_FAILED ? nullptr : static_cast<int*>(at);
  }
};

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
    // /dev/null three times, the FUSE device, the root, the page, the listener, the broker.
    EXPECT_EQ(descriptors_of(pid), 8U);
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
  drive([&](Loop& loop) -> Task<void> {
    auto keeper = start();
    CO_ASSERT(keeper != nullptr);
    keeper->attach(loop);
    std::multiset<GrantId> released;
    keeper->on_release([&](GrantId grant) { released.insert(grant); });
    const UniqueFd fd = memory(kSize);

    for (const Access rights : {Access::read_write, Access::read_only}) {
      auto closed = co_await attach_and_issue(*keeper, RegionId{1}, fd.borrow(), rights);
      CO_ASSERT(closed);
      const GrantId first = closed.value().grant;
      closed.value().fd.reset();
      EXPECT_TRUE(co_await eventually(loop, [&] { return released.contains(first); }));
    }

    auto mapped = co_await attach_and_issue(*keeper, RegionId{1}, fd.borrow(), Access::read_write);
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
    keeper->shut_down();
  });
}

TEST_F(KeeperLife, GrantIsReleasedWithinAHundredMillisecondsOfItsHoldersDeath) {
  REQUIRE_CLONES();
  drive([&](Loop& loop) -> Task<void> {
    auto keeper = start();
    CO_ASSERT(keeper != nullptr);
    keeper->attach(loop);
    GrantId released = 0;
    keeper->on_release([&](GrantId grant) { released = grant; });
    const UniqueFd fd = memory(kSize);
    auto fastest = std::chrono::steady_clock::duration::max();
    // The best of ten: what the keeper adds, rather than what a busy machine does.
    for (int attempt = 0; attempt < 10; ++attempt) {
      auto issued = co_await attach_and_issue(*keeper, RegionId{1}, fd.borrow(), Access::read_write);
      CO_ASSERT(issued);
      const GrantId grant = issued.value().grant;
      const pid_t holder = ::fork();
      if (holder == 0) {
        volatile int* bytes = map(issued.value().fd.borrow());
        bytes[1] = 42;
        for (;;) ::pause();
      }
      issued.value().fd.reset();
      co_await loop.sleep(std::chrono::milliseconds(10));
      EXPECT_NE(released, grant) << "the holder lives";
      const auto killed = std::chrono::steady_clock::now();
      ::kill(holder, SIGKILL);
      const bool gone_now = co_await eventually(loop, [&] { return released == grant; });
      EXPECT_TRUE(gone_now);
      fastest = std::min(fastest, std::chrono::steady_clock::now() - killed);
      ::waitpid(holder, nullptr, 0);
    }
    // The charge must end within 100 ms without any poll by the user.
    EXPECT_LT(fastest, std::chrono::milliseconds(100));
    keeper->shut_down();
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

// Promise 9
TEST_F(KeeperLife, KilledKeeperIsReplacedAndOldMappingsGoOn) {
  REQUIRE_CLONES();
  drive([&](Loop& loop) -> Task<void> {
    auto keeper = start();
    CO_ASSERT(keeper != nullptr);
    keeper->attach(loop);
    int replaced = 0;
    keeper->on_replaced([&] { ++replaced; });
    const UniqueFd fd = memory(kSize);
    CO_ASSERT(keeper->hold(RegionId{1}, fd.borrow()));
    auto before = co_await attach_and_issue(*keeper, RegionId{1}, fd.borrow(), Access::read_write);
    CO_ASSERT(before);
    int* bytes = map(before.value().fd.borrow());
    CO_ASSERT(bytes != nullptr);
    bytes[0] = 1;

    const pid_t old = keeper->pid();
    ::kill(old, SIGKILL);
    EXPECT_TRUE(co_await eventually(loop, [&] { return replaced == 1; }));
    EXPECT_NE(keeper->pid(), old);
    EXPECT_TRUE(co_await eventually(loop, [&] { return gone(old); }));
    bytes[1] = 2;
    char byte = 0;
    EXPECT_EQ(::read(before.value().fd.get(), &byte, 1), -1) << "must fail, not hang";

    CO_ASSERT(keeper->hold(RegionId{1}, fd.borrow()));
    auto after = co_await attach_and_issue(*keeper, RegionId{1}, fd.borrow(), Access::read_write);
    CO_ASSERT(after);
    EXPECT_NE(after.value().grant, before.value().grant);
    int* same = map(after.value().fd.borrow());
    CO_ASSERT(same != nullptr);
    EXPECT_EQ(same[1], 2);
    ::munmap(bytes, kSize.value);
    ::munmap(same, kSize.value);
    keeper->shut_down();
  });
}

TEST_F(KeeperLife, StoppedKeeperTimesOutAndServesAgainWhenContinued) {
  REQUIRE_CLONES();
  options.issue_deadline = std::chrono::milliseconds(100);
  drive([&](Loop& loop) -> Task<void> {
    auto keeper = start();
    CO_ASSERT(keeper != nullptr);
    keeper->attach(loop);
    std::vector<GrantId> released;
    keeper->on_release([&](GrantId grant) { released.push_back(grant); });
    const UniqueFd fd = memory(kSize);
    auto before = co_await issue_patiently(*keeper, RegionId{1}, fd.borrow(), Access::read_write);
    CO_ASSERT(before);

    ::kill(keeper->pid(), SIGSTOP);
    const auto asked = std::chrono::steady_clock::now();
    auto late = co_await keeper->clone().issue(RegionId{1}, label(kSize, Access::read_write));
    const auto waited = std::chrono::steady_clock::now() - asked;
    CO_ASSERT(!late);
    EXPECT_EQ(late.error().code, ErrorCode::timed_out);
    EXPECT_LT(waited, std::chrono::seconds(5)) << "the deadline is 0.1 s";
    // What needs no open goes on: the memory must survive the broker from here on, stopped keeper or not.
    EXPECT_TRUE(keeper->hold(RegionId{2}, fd.borrow()));
    EXPECT_TRUE(keeper->clone().attach(RegionId{2}, fd.borrow(), kSize));

    ::kill(keeper->pid(), SIGCONT);
    auto again = co_await issue_patiently(*keeper, RegionId{2}, fd.borrow(), Access::read_write);
    CO_ASSERT(again);
    again.value().fd.reset();
    EXPECT_TRUE(co_await eventually(loop, [&] { return !released.empty(); }));
    // The abandoned open was closed, and nobody hears of a grant that nobody got.
    EXPECT_EQ(released, std::vector<GrantId>{again.value().grant});
    keeper->shut_down();
  });
}

// Promise 9: one death after another costs each client milliseconds, not a pause for the keeper's sake.
TEST_F(KeeperLife, KeepersThatServedAreReplacedWithoutAPauseHoweverManyDie) {
  REQUIRE_CLONES();
  drive([&](Loop& loop) -> Task<void> {
    auto keeper = start();
    CO_ASSERT(keeper != nullptr);
    keeper->attach(loop);
    int replaced = 0;
    keeper->on_replaced([&] { ++replaced; });
    auto fastest = std::chrono::steady_clock::duration::max();
    constexpr int kDeaths = 8;
    for (int death = 1; death <= kDeaths; ++death) {
      const auto killed = std::chrono::steady_clock::now();
      ::kill(keeper->pid(), SIGKILL);
      EXPECT_TRUE(co_await eventually(loop, [&] { return replaced == death; }));
      // The first has no start before it that could hold it up.
      if (death > 1) fastest = std::min(fastest, std::chrono::steady_clock::now() - killed);
    }
    // Generous: the best of seven takes about 20 ms.
    EXPECT_LT(fastest, std::chrono::milliseconds(500));
    keeper->shut_down();
  });
}

TEST_F(KeeperLife, SilentKeeperIsKilledAndReplacedWhileOpensWait) {
  REQUIRE_CLONES();
  options.issue_deadline = std::chrono::milliseconds(100);
  options.kill_after = std::chrono::milliseconds(400);
  drive([&](Loop& loop) -> Task<void> {
    auto keeper = start();
    CO_ASSERT(keeper != nullptr);
    keeper->attach(loop);
    int replaced = 0;
    keeper->on_replaced([&] { ++replaced; });
    const UniqueFd fd = memory(kSize);
    CO_ASSERT(keeper->clone().attach(RegionId{1}, fd.borrow(), kSize));
    const pid_t old = keeper->pid();
    ::kill(old, SIGSTOP);
    auto late = co_await keeper->clone().issue(RegionId{1}, label(kSize, Access::read_write));
    EXPECT_FALSE(late);
    EXPECT_TRUE(co_await eventually(loop, [&] { return replaced == 1; }));
    EXPECT_TRUE(co_await eventually(loop, [&] { return gone(old); }));
    // The issuing thread hung in the old keeper; it must be free again.
    auto fresh = co_await issue_patiently(*keeper, RegionId{1}, fd.borrow(), Access::read_only);
    EXPECT_TRUE(fresh) << (fresh ? "" : fresh.error().sentence);
    keeper->shut_down();
  });
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
  options.kill_after = std::chrono::milliseconds(400);
  StandIn first(options, 1, 1);
  const auto given = first.next();
  ASSERT_TRUE(given);
  ::kill(given->told.keeper, SIGSTOP);
  ASSERT_TRUE(first.kill());
  auto second = start();
  ASSERT_NE(second, nullptr);
  EXPECT_TRUE(second->adopted());
  EXPECT_EQ(second->take_held().size(), 1U);
  second->shut_down();
}

TEST_F(KeeperLife, DroppedMemoryIsLetGo) {
  REQUIRE_CLONES();
  drive([&](Loop& loop) -> Task<void> {
    auto keeper = start();
    CO_ASSERT(keeper != nullptr);
    keeper->attach(loop);
    const std::size_t before = descriptors_of(keeper->pid());
    const UniqueFd fd = memory(kSize);
    CO_ASSERT(keeper->hold(RegionId{1}, fd.borrow()));
    EXPECT_TRUE(co_await eventually(loop, [&] { return descriptors_of(keeper->pid()) == before + 1; }));
    keeper->drop(RegionId{1});
    EXPECT_TRUE(co_await eventually(loop, [&] { return descriptors_of(keeper->pid()) == before; }));
    keeper->shut_down();
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
  for (int i = 0; i < 500 && !gone(pid); ++i) ::usleep(10'000);
  EXPECT_TRUE(gone(pid));
  ::waitpid(pid, nullptr, WNOHANG);
  auto second = start();
  ASSERT_NE(second, nullptr);
  EXPECT_FALSE(second->adopted());
  second->shut_down();
}

/// What an administrator can do to any FUSE connection: /sys/fs/fuse/connections/N/abort. Through a mount of
/// its own, which nobody sees.
bool abort_connection_of(BorrowedFd grant) {
  struct stat status {};
  if (::fstat(grant.get(), &status) != 0) return false;
  const UniqueFd context(::fsopen("fusectl", FSOPEN_CLOEXEC));
  if (::fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) return false;
  const UniqueFd mount(::fsmount(context.get(), FSMOUNT_CLOEXEC, 0));
  const std::string path = std::to_string(minor(status.st_dev)) + "/abort";
  const UniqueFd file(::openat(mount.get(), path.c_str(), O_WRONLY | O_CLOEXEC));
  return ::write(file.get(), "1", 1) == 1;
}

TEST_F(KeeperLife, AbortedConnectionIsReplacedUnderALivingBroker) {
  REQUIRE_CLONES();
  drive([&](Loop& loop) -> Task<void> {
    auto keeper = start();
    CO_ASSERT(keeper != nullptr);
    keeper->attach(loop);
    int replaced = 0;
    keeper->on_replaced([&] { ++replaced; });
    const UniqueFd fd = memory(kSize);
    auto before = co_await attach_and_issue(*keeper, RegionId{1}, fd.borrow(), Access::read_write);
    CO_ASSERT(before);
    CO_ASSERT(abort_connection_of(before.value().fd.borrow()));
    EXPECT_TRUE(co_await eventually(loop, [&] { return replaced == 1; }));
    int* still = map(before.value().fd.borrow());
    EXPECT_NE(still, nullptr) << "old grants go on mapping";
    auto after = co_await attach_and_issue(*keeper, RegionId{1}, fd.borrow(), Access::read_write);
    EXPECT_TRUE(after);
    keeper->shut_down();
  });
}

TEST_F(KeeperLife, MemoryOutlivesAConnectionThatIsAbortedWhileNoBrokerLives) {
  REQUIRE_CLONES();
  StandIn first(options, 1, 2);
  auto given = first.next();
  ASSERT_TRUE(given);
  ASSERT_TRUE(first.next());
  int* bytes = map(given->fd.borrow());
  ASSERT_NE(bytes, nullptr);
  bytes[0] = 99;
  ASSERT_TRUE(first.kill());
  ASSERT_TRUE(abort_connection_of(given->fd.borrow()));
  drive([&](Loop& loop) -> Task<void> {
    auto keeper = start();
    CO_ASSERT(keeper != nullptr);
    EXPECT_NE(keeper->pid(), given->told.keeper);
    keeper->attach(loop);
    std::vector<HeldMemory> held = keeper->take_held();
    CO_ASSERT(held.size() == 2);
    EXPECT_TRUE(keeper->take_live_grants().empty()) << "nobody will tell of their end";
    const auto one = std::find_if(held.begin(), held.end(),
                                  [](const HeldMemory& memory) { return memory.region == RegionId{1}; });
    CO_ASSERT(one != held.end());
    auto issued = co_await attach_and_issue(*keeper, RegionId{1}, one->fd.borrow(), Access::read_only);
    CO_ASSERT(issued);
    void* again = ::mmap(nullptr, kSize.value, PROT_READ, MAP_SHARED, issued.value().fd.get(), 0);
    CO_ASSERT(again != MAP_FAILED);
    EXPECT_EQ(*static_cast<int*>(again), 99);
    keeper->shut_down();
  });
}

// Style: every step is failed once; afterwards the descriptors are what they were.
TEST_F(KeeperLife, StartThatFailsAtAnyDescriptorLeavesNothingBehind) {
  REQUIRE_CLONES();
  const std::size_t before = descriptors_of(::getpid());
  rlimit usual{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &usual), 0);
  int failures = 0;
  bool succeeded = false;
  for (rlim_t allowed = before; allowed < before + 40 && !succeeded; ++allowed) {
    const rlimit tight{allowed, usual.rlim_max};
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &tight), 0);
    auto keeper = Keeper::adopt_or_start(options);
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &usual), 0);
    if (!keeper) {
      ++failures;
    } else {
      succeeded = keeper.value()->clone_unavailable().empty();
      keeper.value()->shut_down();
      keeper.value().reset();
    }
    EXPECT_EQ(descriptors_of(::getpid()), before) << "with a limit of " << allowed;
  }
  EXPECT_GT(failures, 3);
  EXPECT_TRUE(succeeded);
}

TEST_F(KeeperLife, IssueThatFailsForWantOfDescriptorsSaysSoAndLeaksNoGrant) {
  REQUIRE_CLONES();
  drive([&](Loop& loop) -> Task<void> {
    auto keeper = start();
    CO_ASSERT(keeper != nullptr);
    keeper->attach(loop);
    const UniqueFd fd = memory(kSize);
    auto warm = co_await attach_and_issue(*keeper, RegionId{1}, fd.borrow(), Access::read_only);
    CO_ASSERT(warm);
    const std::size_t before = descriptors_of(::getpid());
    // A read-only grant needs two descriptors for a moment: the writable open that it is made from, and
    // itself.
    for (const std::size_t spare : {0U, 1U}) {
      rlimit usual{};
      CO_ASSERT(::getrlimit(RLIMIT_NOFILE, &usual) == 0);
      const rlimit tight{before + 64, usual.rlim_max};
      CO_ASSERT(::setrlimit(RLIMIT_NOFILE, &tight) == 0);
      std::vector<UniqueFd> filling;
      for (UniqueFd copy(::dup(fd.get())); copy.valid(); copy = UniqueFd(::dup(fd.get()))) {
        filling.push_back(std::move(copy));
      }
      CO_ASSERT(filling.size() > spare);
      filling.resize(filling.size() - spare);
      auto issued = co_await keeper->clone().issue(RegionId{1}, label(kSize, Access::read_only));
      filling.clear();
      CO_ASSERT(::setrlimit(RLIMIT_NOFILE, &usual) == 0);
      CO_ASSERT(!issued);
      EXPECT_EQ(issued.error().code, ErrorCode::exhausted);
      EXPECT_EQ(descriptors_of(::getpid()), before);
    }
    auto after = co_await keeper->clone().issue(RegionId{1}, label(kSize, Access::read_only));
    EXPECT_TRUE(after);
    keeper->shut_down();
  });
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
      for (int i = 0; i < 1000 && !gone(keeper); ++i) ::usleep(1000);
      EXPECT_TRUE(gone(keeper)) << "round " << round << ": state " << state_of(keeper);
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
