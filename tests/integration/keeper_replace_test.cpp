// A keeper that dies, stalls or loses its connection is replaced, and grants go on.
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <optional>

#include "tests/support/keeper_life.h"

namespace mapcap::test {
namespace {

/// What an administrator can do to any FUSE connection: /sys/fs/fuse/connections/N/abort. Through a mount of
/// its own, which nobody sees.
bool abort_connection_of(BorrowedFd grant) {
  struct stat status {};
  if (::fstat(grant.get(), &status) != 0) return false;
  const Fd context(::fsopen("fusectl", FSOPEN_CLOEXEC));
  if (::fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) return false;
  const Fd mount(::fsmount(context.get(), FSMOUNT_CLOEXEC, 0));
  const std::string path = std::to_string(minor(status.st_dev)) + "/abort";
  const Fd file(::openat(mount.get(), path.c_str(), O_WRONLY | O_CLOEXEC));
  return ::write(file.get(), "1", 1) == 1;
}

// Promise 9
TEST_F(KeeperLife, KilledKeeperIsReplacedAndOldMappingsGoOn) {
  REQUIRE_CLONES();
  with_keeper([&](Loop& loop, Keeper& keeper) -> Task<void> {
    int replaced = 0;
    keeper.on_replaced([&] { ++replaced; });
    const Fd fd = memory(kSize);
    CO_ASSERT((co_await keeper.hold(RegionId{1}, fd.borrow())).has_value());
    auto before = co_await attach_and_issue(keeper, RegionId{1}, fd.borrow(), Access::read_write);
    CO_ASSERT(before);
    int* bytes = map(before.value().fd.borrow());
    CO_ASSERT(bytes != nullptr);
    bytes[0] = 1;

    const pid_t old = keeper.pid();
    ::kill(old, SIGKILL);
    EXPECT_TRUE(co_await eventually(loop, [&] { return replaced == 1; }));
    EXPECT_NE(keeper.pid(), old);
    EXPECT_TRUE(co_await eventually(loop, [&] { return gone(old); }));
    bytes[1] = 2;
    char byte = 0;
    EXPECT_EQ(::read(before.value().fd.get(), &byte, 1), -1) << "must fail, not hang";

    CO_ASSERT((co_await keeper.hold(RegionId{1}, fd.borrow())).has_value());
    auto after = co_await attach_and_issue(keeper, RegionId{1}, fd.borrow(), Access::read_write);
    CO_ASSERT(after);
    EXPECT_NE(after.value().grant, before.value().grant);
    int* same = map(after.value().fd.borrow());
    CO_ASSERT(same != nullptr);
    EXPECT_EQ(same[1], 2);
    ::munmap(bytes, kSize.value);
    ::munmap(same, kSize.value);
  });
}

/// Asks for a grant of a region while the keeper is stopped; it is refused when the broker has waited for as long
/// as it is told to, and not before.
class StoppedKeeper : public KeeperLife {
 protected:
  Task<void> expect_an_issue_to_time_out(Loop& loop, Keeper& keeper) {
    std::optional<Result<Issued>> late;
    const auto ask = [&]() -> Task<void> {
      Result<Issued> issued = co_await keeper.clone().issue(RegionId{1}, label(kSize, Access::read_write));
      late.emplace(std::move(issued));
    };
    broker::spawn(ask());
    co_await pass(loop, time_, options.issue_deadline - std::chrono::nanoseconds(1));
    EXPECT_FALSE(late) << "its time was not over";
    co_await pass(loop, time_, std::chrono::nanoseconds(1));
    const bool ended = co_await eventually(loop, [&] { return late.has_value(); });
    CO_ASSERT(ended);
    CO_ASSERT(!*late);
    EXPECT_EQ(late->error().code, ErrorCode::timed_out);
  }

  VirtualTime time_;
};

TEST_F(StoppedKeeper, TimesOutAndServesAgainWhenContinued) {
  REQUIRE_CLONES();
  with_keeper(time_, [&](Loop& loop, Keeper& keeper) -> Task<void> {
    std::vector<GrantId> released;
    keeper.on_release([&](GrantId grant) { released.push_back(grant); });
    const Fd fd = memory(kSize);
    auto before = co_await attach_and_issue(keeper, RegionId{1}, fd.borrow(), Access::read_write);
    CO_ASSERT(before);

    ::kill(keeper.pid(), SIGSTOP);
    co_await expect_an_issue_to_time_out(loop, keeper);
    // What needs no open goes on: the memory must survive the broker from here on, stopped keeper or not.
    EXPECT_TRUE((co_await keeper.hold(RegionId{2}, fd.borrow())).has_value());
    EXPECT_TRUE(keeper.clone().attach(RegionId{2}, fd.borrow(), kSize));

    ::kill(keeper.pid(), SIGCONT);
    auto again = co_await attach_and_issue(keeper, RegionId{2}, fd.borrow(), Access::read_write);
    CO_ASSERT(again);
    again.value().fd.reset();
    EXPECT_TRUE(co_await eventually(loop, [&] { return !released.empty(); }));
    // The abandoned open was closed, and nobody hears of a grant that nobody got.
    EXPECT_EQ(released, std::vector<GrantId>{again.value().grant});
  });
}

TEST_F(StoppedKeeper, IsKilledAndReplacedAfterItsTimeWhileOpensWait) {
  REQUIRE_CLONES();
  with_keeper(time_, [&](Loop& loop, Keeper& keeper) -> Task<void> {
    int replaced = 0;
    keeper.on_replaced([&] { ++replaced; });
    const Fd fd = memory(kSize);
    CO_ASSERT(keeper.clone().attach(RegionId{1}, fd.borrow(), kSize));
    const pid_t old = keeper.pid();
    ::kill(old, SIGSTOP);
    co_await expect_an_issue_to_time_out(loop, keeper);
    EXPECT_TRUE(keeper.health().serving) << "its time is not over";
    // The broker asks several times in that time: it passes in pieces.
    for (int i = 0; i < 10; ++i) co_await pass(loop, time_, options.kill_after / 8);
    EXPECT_FALSE(keeper.health().serving && keeper.pid() == old) << "it was silent for too long";
    EXPECT_TRUE(co_await eventually(loop, [&] { return replaced == 1; }));
    EXPECT_TRUE(co_await eventually(loop, [&] { return gone(old); }));
    // The issuing thread hung in the old keeper; it must be free again.
    auto fresh = co_await attach_and_issue(keeper, RegionId{1}, fd.borrow(), Access::read_only);
    EXPECT_TRUE(fresh) << (fresh ? "" : fresh.error().sentence);
  });
}

// Promise 9: one death after another costs each client milliseconds, not a pause for the keeper's sake.
TEST_F(KeeperLife, KeepersThatServedAreReplacedWithoutAPauseHoweverManyDie) {
  REQUIRE_CLONES();
  VirtualTime time;
  with_keeper(time, [&](Loop& loop, Keeper& keeper) -> Task<void> {
    int replaced = 0;
    keeper.on_replaced([&] { ++replaced; });
    constexpr int kDeaths = 8;
    constexpr std::chrono::milliseconds kBetweenStarts{20};  // What keeper.cpp allows between any two.
    for (int death = 1; death <= kDeaths; ++death) {
      const pid_t old = keeper.pid();
      ::kill(old, SIGKILL);
      EXPECT_TRUE(co_await eventually(loop, [&] { return keeper.pid() != old; })) << "its end was not heard";
      co_await pass(loop, time, kBetweenStarts);
      // No more of the broker's time passes.
      EXPECT_TRUE(co_await eventually(loop, [&] { return replaced == death; })) << "after a longer pause";
    }
  });
}

TEST_F(KeeperLife, AbortedConnectionIsReplacedUnderALivingBroker) {
  REQUIRE_CLONES();
  with_keeper([&](Loop& loop, Keeper& keeper) -> Task<void> {
    int replaced = 0;
    keeper.on_replaced([&] { ++replaced; });
    const Fd fd = memory(kSize);
    auto before = co_await attach_and_issue(keeper, RegionId{1}, fd.borrow(), Access::read_write);
    CO_ASSERT(before);
    CO_ASSERT(abort_connection_of(before.value().fd.borrow()));
    EXPECT_TRUE(co_await eventually(loop, [&] { return replaced == 1; }));
    int* still = map(before.value().fd.borrow());
    EXPECT_NE(still, nullptr) << "old grants go on mapping";
    auto after = co_await attach_and_issue(keeper, RegionId{1}, fd.borrow(), Access::read_write);
    EXPECT_TRUE(after);
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

}  // namespace
}  // namespace mapcap::test
