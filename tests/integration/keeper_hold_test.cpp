// Thousands of regions: a keeper's queue has room for a few hundred messages with descriptors, and whoever
// waits for it must get an answer that is final.
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <vector>

#include "base/fd_path.h"
#include "broker/keeper/wire.h"
#include "tests/support/hidden_fuse.h"
#include "tests/support/keeper_life.h"

namespace mapcap::test {
namespace {

namespace wire = broker::keeper::wire;

constexpr std::uint64_t kMany = 2000;  // Seven times what an idle socket's queue takes, one by one.

/// On one processor the keeper gets no turn while the broker sends: what a busy machine does by chance.
class OneProcessor {
 public:
  OneProcessor() {
    ::sched_getaffinity(0, sizeof before_, &before_);
    cpu_set_t one;
    CPU_ZERO(&one);
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (!CPU_ISSET(cpu, &before_)) continue;
      CPU_SET(cpu, &one);
      break;
    }
    ::sched_setaffinity(0, sizeof one, &one);
  }
  ~OneProcessor() { ::sched_setaffinity(0, sizeof before_, &before_); }
  OneProcessor(const OneProcessor&) = delete;
  OneProcessor& operator=(const OneProcessor&) = delete;

 private:
  cpu_set_t before_{};
};

class KeeperHold : public KeeperLife {
 protected:
  void SetUp() override {
    KeeperLife::SetUp();
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;  // The keeper raises its own as far as it may.
    ::setrlimit(RLIMIT_NOFILE, &limit);
  }

  /// Everything through one descriptor: the keeper gets a copy for each region.
  void guard_many(Keeper& keeper) {
    for (std::uint64_t region = 1; region <= kMany; ++region) keeper.guard(RegionId{region}, fd_.borrow());
  }

  const OneProcessor one_;
  const Fd fd_ = memory(kSize);
};

// It is told of many at once, and soon of few.
TEST_F(KeeperHold, WhatIsDroppedIsForgottenHoweverMuchItIs) {
  with_keeper([&](Loop& loop, Keeper& keeper) -> Task<void> {
    const std::size_t before = descriptors_of(keeper.pid());
    guard_many(keeper);
    EXPECT_TRUE(co_await eventually(loop, [&] { return keeper.health().unheld == 0; }));
    for (std::uint64_t region = 4; region <= kMany; ++region) keeper.drop(RegionId{region});
    EXPECT_EQ(keeper.health().held, 3U) << "at once, in the books";
    EXPECT_TRUE(co_await eventually(loop, [&] { return descriptors_of(keeper.pid()) == before + 3; }));
    for (std::uint64_t region = 1; region <= 3; ++region) keeper.drop(RegionId{region});
    EXPECT_TRUE(co_await eventually(loop, [&] { return descriptors_of(keeper.pid()) == before; }));
    // One that is to be held again is not dropped behind that.
    keeper.guard(RegionId{1}, fd_.borrow());
    keeper.drop(RegionId{1});
    keeper.guard(RegionId{1}, fd_.borrow());
    EXPECT_TRUE(co_await keeper.settle(kPatience));
    EXPECT_TRUE(co_await eventually(loop, [&] { return descriptors_of(keeper.pid()) == before + 1; }));
  });
}

/// Whether anybody has it open: of memory that was opened, the kernel counts that.
bool is_open(const Fd& memory) {
  const Fd probe(::open(fd_path(memory.borrow()).c_str(), O_RDONLY | O_CLOEXEC));
  return ::fcntl(probe.get(), F_SETLEASE, F_WRLCK) != 0;
}

TEST_F(KeeperHold, BackingsAreClosedThoughTheKeeperIsToldOfManyAtOnce) {
  REQUIRE_CLONES();
  with_keeper([&](Loop& loop, Keeper& keeper) -> Task<void> {
    std::vector<Fd> all;
    for (std::uint64_t region = 1; region <= 100; ++region) {
      all.push_back(memory(kSize));
      const Fd opened(::open(fd_path(all.back().borrow()).c_str(), O_RDWR | O_CLOEXEC));
      CO_ASSERT(keeper.clone().attach(RegionId{region}, opened.borrow(), kSize));
    }
    const auto open = [&all] { return std::count_if(all.begin(), all.end(), is_open); };
    EXPECT_EQ(open(), 100);
    for (std::uint64_t region = 1; region <= 90; ++region) keeper.clone().detach(RegionId{region});
    EXPECT_TRUE(co_await eventually(loop, [&] { return open() == 10; }));
    for (std::uint64_t region = 91; region <= 95; ++region) keeper.clone().detach(RegionId{region});
    EXPECT_TRUE(co_await eventually(loop, [&] { return open() == 5; })) << "few wait for no more of them";
    EXPECT_TRUE(co_await keeper.prepare_to_leave(kPatience));
    EXPECT_EQ(open(), 0) << "an orderly end waits for none";
  });
}

// Promise 9
TEST_F(KeeperHold, ANewKeeperIsGivenEveryRegionHoweverMany) {
  with_keeper([&](Loop& loop, Keeper& keeper) -> Task<void> {
    guard_many(keeper);
    EXPECT_TRUE(co_await eventually(loop, [&] { return keeper.health().unheld == 0; }));
    const pid_t old = keeper.pid();
    ::kill(old, SIGKILL);
    EXPECT_TRUE(co_await eventually(loop, [&] { return keeper.health().replaced == 1; }));
    EXPECT_TRUE(co_await eventually(loop, [&] { return keeper.health().unheld == 0; }));
    EXPECT_EQ(keeper.health().held, kMany);
    EXPECT_TRUE(co_await eventually(loop, [&] { return descriptors_of(keeper.pid()) >= kMany; }));
    EXPECT_TRUE(co_await eventually(loop, [&] { return !keeper.health().last_end.empty(); }));
    EXPECT_EQ(keeper.health().last_end, "was ended by signal 9 (SIGKILL)");
  });
}

TEST_F(KeeperHold, RegionsThatAKeeperDoesNotHaveYetAreCountedAndGivenWhenItGoesOn) {
  with_keeper([&](Loop& loop, Keeper& keeper) -> Task<void> {
    const pid_t pid = keeper.pid();
    const std::size_t before = co_await own_descriptors(loop, keeper);
    ::kill(pid, SIGSTOP);
    // Each region by itself fills the queue; in packets of 250 all of these fit.
    constexpr std::uint64_t kTooMany = 40'000;
    for (std::uint64_t region = 1; region <= kTooMany; ++region) {
      keeper.guard(RegionId{region}, fd_.borrow());
    }
    co_await loop.sleep(std::chrono::milliseconds(50));
    EXPECT_GT(keeper.health().unheld, 0U);
    EXPECT_EQ(keeper.health().unheld + keeper.health().held, kTooMany);
    // Those that go are not given any more.
    for (std::uint64_t region = kMany + 1; region <= kTooMany; ++region) keeper.drop(RegionId{region});
    ::kill(pid, SIGCONT);
    EXPECT_TRUE(co_await eventually(loop, [&] { return keeper.health().unheld == 0; }));
    EXPECT_TRUE(co_await eventually(loop, [&] { return descriptors_of(pid) == before + kMany; }))
        << descriptors_of(pid);
  });
}

TEST_F(KeeperHold, AHoldThatNoKeeperTakesInTimeIsRefusedForGood) {
  VirtualTime time;
  with_keeper(time, [&](Loop& loop, Keeper& keeper) -> Task<void> {
    const pid_t pid = keeper.pid();
    const std::size_t before = co_await own_descriptors(loop, keeper);
    ::kill(pid, SIGSTOP);
    std::uint64_t asked = 0;
    Result<void> refused = ok();
    bool over = false;
    const auto ask = [&]() -> Task<void> {
      while (asked < 10'000 && refused) refused = co_await keeper.hold(RegionId{++asked}, fd_.borrow());
      over = true;
    };
    broker::spawn(ask());
    // Those that its queue has room for are not waited for.
    CO_ASSERT(!over);
    const std::uint64_t taken = asked - 1;
    co_await pass(loop, time, options.issue_deadline - std::chrono::nanoseconds(1));
    EXPECT_FALSE(over) << "its time was not over";
    co_await pass(loop, time, std::chrono::nanoseconds(1));
    EXPECT_TRUE(over);
    CO_ASSERT(!refused);
    EXPECT_EQ(refused.error().code, ErrorCode::unavailable);
    EXPECT_EQ(asked, taken + 1);
    EXPECT_EQ(keeper.health().held, taken);
    EXPECT_EQ(keeper.health().unheld, 0U) << "a region that was refused is nobody's to hold";
    ::kill(pid, SIGCONT);
    EXPECT_TRUE(co_await eventually(loop, [&] { return descriptors_of(pid) == before + taken; }));
  });
}

TEST_F(KeeperHold, AHoldWaitsForTheNextKeeper) {
  VirtualTime still;  // It waits for the keeper, and not for a time to pass.
  with_keeper(still, [&](Loop& loop, Keeper& keeper) -> Task<void> {
    const pid_t old = keeper.pid();
    ::kill(old, SIGKILL);
    // Or there is another already: that takes milliseconds.
    EXPECT_TRUE(co_await eventually(loop, [&] { return !keeper.health().serving || keeper.pid() != old; }));
    Result<void> held = co_await keeper.hold(RegionId{1}, fd_.borrow());
    EXPECT_TRUE(held) << (held ? "" : held.error().sentence);
    EXPECT_NE(keeper.pid(), old);
    EXPECT_EQ(keeper.health().held, 1U);
  });
}

TEST_F(KeeperHold, AGrantWaitsForTheNextKeeperAndIsAttachedThere) {
  REQUIRE_CLONES();
  VirtualTime still;
  with_keeper(still, [&](Loop& loop, Keeper& keeper) -> Task<void> {
    const pid_t old = keeper.pid();
    ::kill(old, SIGKILL);
    auto issued = co_await keeper.clone().issue(RegionId{1}, label(kSize, Access::read_write), fd_.borrow());
    EXPECT_TRUE(issued) << (issued ? "" : issued.error().sentence);
    EXPECT_TRUE(co_await eventually(loop, [&] { return keeper.pid() != old; }));
  });
}

/// A keeper of the version before: it knows no packet of many, and ends the link at anything that it does not
/// know. Exit status: how many regions it was given, one by one; 255 for anything else.
pid_t start_older_keeper(const std::string& directory) {
  const int listener = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  (directory + "/keeper.sock").copy(address.sun_path, sizeof address.sun_path - 1);
  // SAFETY: sockaddr_un is what AF_UNIX expects behind a sockaddr pointer.
  EXPECT_EQ(::bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  int listens[2] = {-1, -1};
  EXPECT_EQ(::pipe(listens), 0);
  const pid_t pid = ::fork();
  if (pid != 0) {
    ::close(listener);
    ::close(listens[1]);
    char byte = 0;
    EXPECT_EQ(::read(listens[0], &byte, 1), 1);
    ::close(listens[0]);
    return pid;
  }
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::listen(listener, 8);  // Here, so that peers see this process.
  if (::write(listens[1], "", 1) != 1) ::_exit(255);
  const Fd peer(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
  const Fd page(::memfd_create("page", MFD_CLOEXEC));
  wire::Bytes welcome = wire::packet({wire::Kind::welcome, 0, wire::kVersion, 0});
  wire::append(welcome, wire::Welcome{2, 1000, 0, 0});
  const BorrowedFd fds[] = {page.borrow()};
  (void)schema::send(peer.borrow(), welcome, fds);
  (void)schema::send(peer.borrow(), wire::packet({wire::Kind::listed}));
  int held = 0;
  for (;;) {
    pollfd readable{peer.get(), POLLIN, 0};
    ::poll(&readable, 1, -1);
    auto received = schema::receive(peer.borrow(), sizeof(wire::Head), 1);
    if (!received) ::_exit(255);
    if (const auto* nothing = std::get_if<schema::Wait>(&received.value())) {
      if (*nothing == schema::Wait::closed) ::_exit(held);
      continue;
    }
    std::span<const std::byte> bytes(std::get<schema::Incoming>(received.value()).bytes);
    const auto head = wire::take<wire::Head>(bytes);
    if (head->kind == wire::Kind::hold) ++held;
    if (head->kind == wire::Kind::drop) --held;
    if (head->kind == wire::Kind::end) ::_exit(held);
    if (head->kind == wire::Kind::ping) {
      (void)schema::send(peer.borrow(), wire::packet({wire::Kind::pong, 0, 0, head->value}));
    }
    if (static_cast<std::uint32_t>(head->kind) > 8) ::_exit(255);
  }
}

TEST_F(KeeperHold, AKeeperOfTheVersionBeforeIsToldOfRegionsOneByOne) {
  const HiddenFuse hidden;  // It serves no FUSE filesystem, and would be replaced where clones can be made.
  constexpr int kSome = 200;
  const pid_t old = start_older_keeper(options.state_directory);
  drive([&](Loop& loop) -> Task<void> {
    auto keeper = start();
    CO_ASSERT(keeper != nullptr);
    EXPECT_TRUE(keeper->adopted());
    EXPECT_EQ(keeper->pid(), old);
    keeper->attach(loop);
    for (std::uint64_t region = 1; region <= kSome; ++region) keeper->guard(RegionId{region}, fd_.borrow());
    EXPECT_TRUE(co_await eventually(loop, [&] { return keeper->health().unheld == 0; }));
    for (std::uint64_t region = 1; region <= kSome / 2; ++region) keeper->drop(RegionId{region});
    EXPECT_TRUE(co_await keeper->settle(kPatience));
  });
  int status = 0;
  EXPECT_EQ(::waitpid(old, &status, 0), old);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), kSome / 2);
  ::unlink((options.state_directory + "/keeper.sock").c_str());
}

// A broker that finds no FUSE leaves memory with the keeper that has it, and grants that it serves with it.
TEST_F(KeeperHold, AKeeperIsAdoptedAsItIsWhereTheMachineHasNoFuseAnyMore) {
  REQUIRE_CLONES();
  StandIn first(options, 1, 3);
  auto given = first.next();
  ASSERT_TRUE(given);
  ASSERT_TRUE(first.next());
  ASSERT_TRUE(first.next());
  ASSERT_TRUE(first.kill());
  {
    const HiddenFuse hidden;
    auto second = start();
    ASSERT_NE(second, nullptr);
    EXPECT_EQ(second->pid(), given->told.keeper);
    EXPECT_TRUE(second->knows_earlier_grants());
    EXPECT_FALSE(second->clone_unavailable().empty());
    EXPECT_EQ(second->take_held().size(), 3U);
    const std::vector<LiveGrant> live = second->take_live_grants();
    EXPECT_TRUE(std::any_of(live.begin(), live.end(),
                            [&](const LiveGrant& grant) { return grant.grant == given->told.grant; }));
  }
  auto third = start();
  ASSERT_NE(third, nullptr);
  EXPECT_EQ(third->pid(), given->told.keeper) << "with FUSE back, everything goes on where it was";
  EXPECT_TRUE(third->clone_unavailable().empty());
  EXPECT_EQ(third->take_held().size(), 3U);
  third->shut_down();
}

// The other way round: the next keeper has all memory before the one without FUSE ends.
TEST_F(KeeperHold, AKeeperWithoutFuseIsReplacedOnlyAfterTheNextHasEverything) {
  REQUIRE_CLONES();
  pid_t old = 0;
  {
    const HiddenFuse hidden;
    drive([&](Loop& loop) -> Task<void> {
      auto keeper = start();
      CO_ASSERT(keeper != nullptr);
      EXPECT_FALSE(keeper->clone_unavailable().empty());
      keeper->attach(loop);
      old = keeper->pid();
      guard_many(*keeper);
      EXPECT_TRUE(co_await eventually(loop, [&] { return keeper->health().unheld == 0; }));
    });
  }
  drive([&](Loop& loop) -> Task<void> {
    auto keeper = start();
    CO_ASSERT(keeper != nullptr);
    EXPECT_NE(keeper->pid(), old);
    EXPECT_TRUE(keeper->clone_unavailable().empty());
    EXPECT_EQ(keeper->take_held().size(), kMany);
    keeper->attach(loop);
    EXPECT_EQ(keeper->health().held, kMany);
    EXPECT_TRUE(co_await eventually(loop, [&] { return gone(old); }));
    EXPECT_TRUE(co_await eventually(loop, [&] { return descriptors_of(keeper->pid()) >= kMany; }));
    EXPECT_FALSE(std::filesystem::exists(options.state_directory + "/keeper-spare.sock"));
  });
  // The broker ended without a word; the next finds everything in the keeper that took over.
  auto last = start();
  ASSERT_NE(last, nullptr);
  EXPECT_TRUE(last->adopted());
  EXPECT_EQ(last->take_held().size(), kMany);
  last->shut_down();
}

}  // namespace
}  // namespace mapcap::test
