// Opens that are made ahead: each a grant like any other once it is somebody's, and nothing at all before.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/xattr.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <set>
#include <vector>

#include "base/fd_path.h"
#include "broker/keeper/client.h"
#include "broker/keeper/device.h"
#include "broker/keeper/fuse/mount.h"
#include "broker/keeper/issuer.h"
#include "broker/keeper/start.h"
#include "tests/support/keeper_life.h"

namespace mapcap::test {
namespace {

constexpr RegionId kRegion{7};

std::string attribute_text(BorrowedFd fd, const char* name) {
  std::array<char, 256> value{};
  const ssize_t length = ::fgetxattr(fd.get(), name, value.data(), value.size());
  if (length < 0) return "!" + std::to_string(errno);
  return {value.data(), static_cast<std::size_t>(length)};
}

class KeeperReadyOpen : public KeeperLife {
 protected:
  Task<Result<Issued>> open(Keeper& keeper, BorrowedFd memory, Label wanted) {
    Result<Issued> issued = co_await keeper.clone().issue(kRegion, std::move(wanted), memory);
    if (issued) given_.insert(issued.value().grant);
    co_return issued;
  }
  static Label reader(std::uint32_t uid = 65534) {
    Label wanted = label(kSize, Access::read_only);
    wanted.holder = {uid, uid};
    return wanted;
  }

  /// Opens until that many opens were served from what was made ahead; returns the last.
  Task<std::optional<Issued>> one_made_ahead(Loop& loop, Keeper& keeper, BorrowedFd memory,
                                             Label wanted = reader()) {
    const std::uint64_t before = keeper.health().opens_used;
    for (int i = 0; i < 10'000; ++i) {
      auto issued = co_await open(keeper, memory, wanted);
      EXPECT_TRUE(issued) << (issued ? "" : issued.error().sentence);
      if (!issued) co_return std::nullopt;
      if (keeper.health().opens_used > before) co_return std::move(issued.value());
      co_await loop.yield();
    }
    ADD_FAILURE() << "nothing is made ahead";
    co_return std::nullopt;
  }
  /// With some ready, and none of them on its way.
  Task<void> make_some(Loop& loop, Keeper& keeper, BorrowedFd memory) {
    std::optional<Issued> issued = co_await one_made_ahead(loop, keeper, memory);
    EXPECT_TRUE(co_await eventually(loop, [&] { return keeper.health().opens > 0; }));
  }
  /// Whether anybody but the test and its keeper has the memory.
  static bool held_elsewhere(BorrowedFd memory) {
    const Fd probe(::open(fd_path(memory).c_str(), O_RDONLY | O_CLOEXEC));
    ::fcntl(probe.get(), F_SETSIG, SIGURG);
    const bool free = ::fcntl(probe.get(), F_SETLEASE, F_WRLCK) == 0;
    return !free;
  }

  std::set<GrantId> given_;
};

// Promises 1 and 2
TEST_F(KeeperReadyOpen, IsAGrantLikeAnyOther) {
  REQUIRE_CLONES();
  with_keeper([&](Loop& loop, Keeper& keeper) -> Task<void> {
    std::set<GrantId> released;
    keeper.on_release([&](GrantId grant) { released.insert(grant); });
    const Fd region = memory(kSize);
    EXPECT_EQ(::pwrite(region.get(), "stored", 6, 0), 6);
    std::optional<Issued> first = co_await one_made_ahead(loop, keeper, region.borrow(), reader(1234));
    std::optional<Issued> second = co_await one_made_ahead(loop, keeper, region.borrow(), reader(4321));
    CO_ASSERT(first && second);
    EXPECT_NE(first->grant, second->grant);
    const int fd = first->fd.get();
    EXPECT_EQ(::fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
    EXPECT_EQ(::mmap(nullptr, kSize.value, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
    void* map = ::mmap(nullptr, kSize.value, PROT_READ, MAP_SHARED, fd, 0);
    CO_ASSERT(map != MAP_FAILED);
    EXPECT_EQ(std::memcmp(map, "stored", 6), 0);
    EXPECT_EQ(::mprotect(map, kSize.value, PROT_READ | PROT_WRITE), -1);
    char byte = 0;
    EXPECT_EQ(::pread(fd, &byte, 1, 0), -1);
    EXPECT_EQ(::ftruncate(fd, 0), -1);
    EXPECT_EQ(attribute_text(first->fd.borrow(), "system.mapcap.name"), "alice/frames");
    EXPECT_EQ(attribute_text(first->fd.borrow(), "system.mapcap.rights"), "ro");
    EXPECT_EQ(attribute_text(first->fd.borrow(), "system.mapcap.size"), std::to_string(kSize.value));
    // Neither offset nor locks are shared with the next.
    EXPECT_EQ(::lseek(fd, 100, SEEK_SET), 100);
    EXPECT_EQ(::lseek(second->fd.get(), 0, SEEK_CUR), 0);
    EXPECT_EQ(::flock(fd, LOCK_EX | LOCK_NB), 0);
    EXPECT_EQ(::flock(second->fd.get(), LOCK_EX | LOCK_NB), 0);

    const GrantId grant = first->grant;
    first->fd.reset();
    KernelTime kernel(loop);
    (void)co_await kernel.pass(std::chrono::milliseconds(20));
    EXPECT_FALSE(released.contains(grant)) << "its mapping lives";
    ::munmap(map, kSize.value);
    EXPECT_TRUE(co_await eventually(loop, [&] { return released.contains(grant); }));
    EXPECT_FALSE(released.contains(second->grant));
  });
}

// Promise 5: nobody has it, so it must not keep what is taken away.
TEST_F(KeeperReadyOpen, KeepsNoMemoryOnceItsRegionIsTakenAway) {
  REQUIRE_CLONES();
  with_keeper([&](Loop& loop, Keeper& keeper) -> Task<void> {
    const Fd region = memory(kSize);
    keeper.on_release([&](GrantId grant) {
      EXPECT_TRUE(given_.contains(grant)) << "the end of one that nobody had is told";
    });
    for (const bool detached : {false, true}) {
      co_await make_some(loop, keeper, region.borrow());
      EXPECT_TRUE(held_elsewhere(region.borrow()));
      if (detached) {
        keeper.clone().detach(kRegion);
      } else {
        keeper.clone().drop_ready(kRegion);
      }
      EXPECT_EQ(keeper.health().opens, 0U);
      EXPECT_TRUE(co_await eventually(loop, [&] { return !held_elsewhere(region.borrow()); }));
    }
  });
}

TEST_F(KeeperReadyOpen, OfWhatIsDroppedWhileItIsMadeNoneArrives) {
  REQUIRE_CLONES();
  with_keeper([&](Loop& loop, Keeper& keeper) -> Task<void> {
    const Fd region = memory(kSize);
    for (int round = 0; round < 20; ++round) {
      // Orders some at the second open; they are under way when they are dropped.
      for (int i = 0; i < 3; ++i) {
        auto issued = co_await open(keeper, region.borrow(), reader());
        CO_ASSERT(issued.has_value());
      }
      keeper.clone().drop_ready(kRegion);
      auto after = co_await open(keeper, region.borrow(), reader());
      CO_ASSERT(after.has_value());
      EXPECT_EQ(keeper.health().opens, 0U) << "nobody opened it twice since";
    }
    keeper.clone().drop_ready(kRegion);
    EXPECT_TRUE(co_await eventually(loop, [&] { return !held_elsewhere(region.borrow()); }));
  });
}

// Promise 15
TEST_F(KeeperReadyOpen, OfAPublishedRegionSaysSo) {
  REQUIRE_CLONES();
  with_keeper([&](Loop& loop, Keeper& keeper) -> Task<void> {
    const Fd region = memory(kSize);
    co_await make_some(loop, keeper, region.borrow());
    // Nobody has one, so that the keeper does not remember what it is told.
    EXPECT_TRUE(co_await eventually(loop, [&] { return keeper.health().opens > 0; }));
    co_await keeper.clone().tell_published(kRegion, 77);
    EXPECT_EQ(keeper.health().opens, 0U);
    for (int i = 0; i < 50; ++i) {
      Label published = reader();
      published.published_unix_ns = 77;
      auto issued = co_await open(keeper, region.borrow(), published);
      CO_ASSERT(issued.has_value());
      EXPECT_EQ(attribute_text(issued.value().fd.borrow(), "system.mapcap.published"), "77") << i;
      co_await loop.yield();
    }
    EXPECT_GT(keeper.health().opens_used, 1U);
  });
}

// A writable grant is made when somebody asks for it, so that nobody has to wait for the end of those that nobody has.
TEST_F(KeeperReadyOpen, IsNeverAWriter) {
  REQUIRE_CLONES();
  with_keeper([&](Loop& loop, Keeper& keeper) -> Task<void> {
    const Fd region = memory(kSize);
    for (int i = 0; i < 20; ++i) {
      auto issued = co_await open(keeper, region.borrow(), label(kSize, Access::read_write));
      CO_ASSERT(issued.has_value());
    }
    EXPECT_EQ(keeper.health().opens, 0U);
    co_await make_some(loop, keeper, region.borrow());
    const Fd probe(::open(fd_path(region.borrow()).c_str(), O_RDONLY | O_CLOEXEC));
    ::fcntl(probe.get(), F_SETSIG, SIGURG);
    EXPECT_TRUE(co_await eventually(loop, [&] { return ::fcntl(probe.get(), F_SETLEASE, F_RDLCK) == 0; }))
        << "the memory is open for writing";
    EXPECT_GT(keeper.health().opens, 0U);
  });
}

// Promise 9
TEST_F(KeeperReadyOpen, OfADeadKeeperIsWorthNothing) {
  REQUIRE_CLONES();
  with_keeper([&](Loop& loop, Keeper& keeper) -> Task<void> {
    const Fd region = memory(kSize);
    co_await make_some(loop, keeper, region.borrow());
    const pid_t old = keeper.pid();
    ::kill(old, SIGKILL);
    EXPECT_TRUE(co_await eventually(loop, [&] { return keeper.pid() != old && keeper.health().serving; }));
    EXPECT_EQ(keeper.health().opens, 0U);
    // The next keeper makes some, too, which it answers for.
    std::optional<Issued> issued = co_await one_made_ahead(loop, keeper, region.borrow());
    CO_ASSERT(issued);
    EXPECT_EQ(attribute_text(issued->fd.borrow(), "system.mapcap.name"), "alice/frames");
  });
}

// Promise 9
TEST_F(KeeperReadyOpen, OfADeadBrokerIsNobodysAndOneThatWasGivenAwayIsAdopted) {
  REQUIRE_CLONES();
  std::optional<Issued> grant;
  const Fd region = memory(kSize);
  pid_t first = 0;
  drive([&](Loop& loop) -> Task<void> {
    auto keeper = start();
    CO_ASSERT(keeper != nullptr);
    first = keeper->pid();
    keeper->attach(loop);
    CO_ASSERT((co_await keeper->hold(kRegion, region.borrow())).has_value());
    grant = co_await one_made_ahead(loop, *keeper, region.borrow(), reader(1234));
    CO_ASSERT(grant);
    EXPECT_TRUE(co_await eventually(loop, [&] { return keeper->health().opens > 0; }));
  });
  drive([&](Loop& loop) -> Task<void> {
    auto keeper = start();
    CO_ASSERT(keeper != nullptr);
    EXPECT_EQ(keeper->pid(), first);
    keeper->attach(loop);
    const std::vector<HeldMemory> held = keeper->take_held();
    CO_ASSERT(held.size() == 1);
    EXPECT_EQ(held.front().region, kRegion);
    // Of others that were given away and closed the end may be yet to come; those that nobody had are not among them.
    std::set<GrantId> live;
    for (const LiveGrant& one : keeper->take_live_grants()) {
      EXPECT_NE(one.holder.uid, 0U) << "one that nobody had";
      if (one.grant == grant->grant) {
        EXPECT_EQ(one.holder, (broker::confine::Holder{1234, 1234}));
      }
      live.insert(one.grant);
    }
    EXPECT_TRUE(live.contains(grant->grant));
    EXPECT_EQ(attribute_text(grant->fd.borrow(), "system.mapcap.name"), "alice/frames");
    grant->fd.reset();
    EXPECT_TRUE(co_await eventually(loop, [&] { return !held_elsewhere(held.front().fd.borrow()); }));
    keeper->shut_down();
  });
}

/// What /proc says of a descriptor.
std::string link_of(BorrowedFd fd) {
  std::array<char, 512> target{};
  const ssize_t length = ::readlink(fd_path(fd).c_str(), target.data(), target.size());
  return length < 0 ? "!" : std::string(target.data(), static_cast<std::size_t>(length));
}

// Whoever looks for the holders of a region finds its name, and no way to it.
TEST_F(KeeperReadyOpen, ShowsItsRegionsNameInProcAsTheOneThatWasAskedForDoes) {
  REQUIRE_CLONES();
  with_keeper([&](Loop& loop, Keeper& keeper) -> Task<void> {
    std::set<GrantId> released;
    keeper.on_release([&](GrantId grant) { released.insert(grant); });
    const Fd region = memory(kSize);
    auto asked = co_await open(keeper, region.borrow(), reader());
    CO_ASSERT(asked.has_value());
    std::optional<Issued> ahead = co_await one_made_ahead(loop, keeper, region.borrow());
    CO_ASSERT(ahead);
    for (Issued* issued : {&asked.value(), &*ahead}) {
      const std::string name = link_of(issued->fd.borrow());
      EXPECT_TRUE(name.starts_with("/alice:frames#")) << name;
      EXPECT_TRUE(name.ends_with(" (deleted)")) << name;
      EXPECT_EQ(::openat(issued->fd.get(), "..", O_PATH), -1);
      EXPECT_EQ(::open((fd_path(issued->fd.borrow()) + "/..").c_str(), O_PATH), -1);
      EXPECT_EQ(::open(fd_path(issued->fd.borrow()).c_str(), O_RDONLY), -1) << "not even by root";
      // Its end is told once nobody has it or its mapping, which its name must not delay.
      void* map = ::mmap(nullptr, kSize.value, PROT_READ, MAP_SHARED, issued->fd.get(), 0);
      CO_ASSERT(map != MAP_FAILED);
      issued->fd.reset();
      KernelTime kernel(loop);
      (void)co_await kernel.pass(std::chrono::milliseconds(20));
      EXPECT_FALSE(released.contains(issued->grant));
      ::munmap(map, kSize.value);
      EXPECT_TRUE(co_await eventually(loop, [&] { return released.contains(issued->grant); }));
    }
  });
}

// Promises 8 and 9: a node that still has its name is one whose end the kernel would not tell.
TEST_F(KeeperReadyOpen, OfABrokerThatDiedBeforeItHadTakenTheNameAwayTheEndIsTold) {
  REQUIRE_CLONES();
  const GrantId left = [this] {
    using namespace broker::keeper;
    const Fd directory = std::move(open_state_directory(options.state_directory).value());
    KeeperHandle handle =
        std::move(fork_keeper(directory.borrow(), kRequestTimeout, options.idle, {}).value());
    EXPECT_TRUE(receive_inventory(handle, options));
    const Fd region = memory(kSize);
    const std::int32_t backing = open_backing(handle.clone.device.borrow(), region.borrow()).value();
    IssuePath& path = *handle.clone.path;
    path.by_name = true;
    Opening opening{handle.clone.next_grant, kRegion,  backing, kSize,
                    Access::read_only,       {77, 77}, 0,       encode_label(reader()).value()};
    const Result<Fd> open = open_with_name(path, opening);
    EXPECT_TRUE(open) << (open ? "" : open.error().sentence);
    EXPECT_TRUE(open && link_of(open.value().borrow()).starts_with("/alice:frames#"));
    EXPECT_TRUE(open && !link_of(open.value().borrow()).ends_with(" (deleted)"));
    return opening.grant;
  }();
  drive([&](Loop& loop) -> Task<void> {
    auto keeper = start();
    CO_ASSERT(keeper != nullptr);
    EXPECT_TRUE(keeper->adopted());
    std::set<GrantId> gone;
    keeper->on_release([&](GrantId grant) { gone.insert(grant); });
    keeper->attach(loop);
    const std::vector<LiveGrant> live = keeper->take_live_grants();
    const bool listed =
        std::any_of(live.begin(), live.end(), [&](const LiveGrant& one) { return one.grant == left; });
    EXPECT_TRUE(listed) << "its node has a name, and so a life";
    EXPECT_TRUE(co_await eventually(loop, [&] { return gone.contains(left); }))
        << "somebody is charged for ever";
    keeper->shut_down();
  });
}

TEST_F(KeeperReadyOpen, AreGoneWhenNobodyAsks) {
  REQUIRE_CLONES();
  VirtualTime time;
  with_keeper(time, [&](Loop& loop, Keeper& keeper) -> Task<void> {
    const Fd region = memory(kSize);
    co_await make_some(loop, keeper, region.borrow());
    co_await pass(loop, time, std::chrono::seconds(10));
    co_await pass(loop, time, std::chrono::seconds(10));
    EXPECT_EQ(keeper.health().opens, 0U);
    EXPECT_TRUE(co_await eventually(loop, [&] { return !held_elsewhere(region.borrow()); }));
  });
}

TEST_F(KeeperReadyOpen, AreNotMadeBeyondWhatDescriptorsAllow) {
  REQUIRE_CLONES();
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit small = before;
  small.rlim_cur = 64;
  with_keeper([&](Loop& loop, Keeper& keeper) -> Task<void> {
    const Fd region = memory(kSize);
    ::setrlimit(RLIMIT_NOFILE, &small);
    for (int i = 0; i < 200; ++i) {
      auto issued = co_await open(keeper, region.borrow(), reader());
      EXPECT_TRUE(issued);
      co_await loop.yield();
      EXPECT_LE(keeper.health().opens, 4U);
    }
    ::setrlimit(RLIMIT_NOFILE, &before);
  });
}

}  // namespace
}  // namespace mapcap::test
