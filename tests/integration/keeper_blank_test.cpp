// What is made ahead: it is right once it is somebody's, and nobody's as long as it is not.
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <optional>

#include "tests/support/attributes.h"
#include "tests/support/keeper_life.h"

namespace mapcap::test {
namespace {

using broker::confine::Blank;
using broker::confine::BlankSource;

constexpr ByteCount kBytes{16384};

class KeeperBlank : public KeeperLife {
 protected:
  /// Memory as the pool makes it.
  BlankSource source() {
    return {this,
            [] {
              Fd fd(::memfd_create("keeper-test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
              return fd.valid() && ::fchmod(fd.get(), 0600) == 0 ? Result<Fd>(std::move(fd))
                                                                 : io_error("memfd", errno);
            },
            [this] { return RegionId{++last_}; }};
  }

  /// Asks until one is ready.
  Task<std::optional<Blank>> next(Loop& loop, Keeper& keeper, Access rights) {
    std::optional<Blank> blank;
    const bool came = co_await eventually(loop, [&] {
      if (std::optional<Blank> one = take(keeper, rights)) blank.emplace(std::move(*one));
      return blank.has_value();
    });
    EXPECT_TRUE(came) << "nothing is made ahead";
    co_return blank;
  }
  std::optional<Blank> take(Keeper& keeper, Access rights) {
    std::optional<Blank> blank = keeper.clone().take_blank(source(), rights);
    return blank;
  }

  /// Gives it what a create does.
  static Fd shape(Blank& blank) {
    Fd memory = std::move(blank.memory);
    EXPECT_EQ(::ftruncate(memory.get(), static_cast<off_t>(kBytes.value)), 0);
    EXPECT_EQ(::fcntl(memory.get(), F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK), 0);
    return memory;
  }

  std::uint64_t last_ = 0;
};

// Promises 1 and 2
TEST_F(KeeperBlank, BecomesAGrantLikeAnyOther) {
  REQUIRE_CLONES();
  with_keeper([&](Loop& loop, Keeper& keeper) -> Task<void> {
    std::optional<GrantId> released;
    keeper.on_release([&](GrantId grant) { released = grant; });
    for (const Access rights : {Access::read_write, Access::read_only}) {
      std::optional<Blank> blank = co_await next(loop, keeper, rights);
      CO_ASSERT(blank);
      EXPECT_GT(blank->region.value, 0U);
      const Fd memory = shape(*blank);
      CO_ASSERT(keeper.clone().name_blank(*blank, memory.borrow(), label(kBytes, rights)));
      CO_ASSERT((co_await keeper.hold(blank->region, memory.borrow())).has_value());
      blank->keep();
      EXPECT_TRUE(keeper.clone().guards_holes(blank->region));
      std::optional<Issued> issued = keeper.clone().issue_blank(*blank);
      CO_ASSERT(issued);
      EXPECT_FALSE(keeper.clone().issue_blank(*blank)) << "there is one grant";
      const int fd = issued->fd.get();

      const bool writable = rights == Access::read_write;
      void* map = ::mmap(nullptr, kBytes.value, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
      EXPECT_EQ(map != MAP_FAILED, writable);
      if (!writable) map = ::mmap(nullptr, kBytes.value, PROT_READ, MAP_SHARED, fd, 0);
      CO_ASSERT(map != MAP_FAILED);
      if (writable) std::memcpy(static_cast<char*>(map) + kBytes.value - 6, "stored", 6);
      std::array<char, 6> seen{};
      EXPECT_EQ(::pread(memory.get(), seen.data(), seen.size(), static_cast<off_t>(kBytes.value - 6)), 6);
      EXPECT_EQ(std::memcmp(seen.data(), writable ? "stored" : "\0\0\0\0\0", 6), 0);
      EXPECT_EQ(::pread(fd, seen.data(), 1, 0), -1);
      EXPECT_EQ(::pwrite(fd, seen.data(), 1, 0), -1);
      EXPECT_EQ(::ftruncate(fd, 0), -1);
      EXPECT_EQ(::madvise(map, 4096, MADV_REMOVE), -1);
      // Of whoever asks first: the size is not what it was when the kernel first heard of it.
      struct stat status {};
      EXPECT_EQ(::fstat(fd, &status), 0);
      EXPECT_EQ(static_cast<std::uint64_t>(status.st_size), kBytes.value);
      EXPECT_EQ(attribute_text(issued->fd.borrow(), "system.mapcap.name"), "alice/frames");
      EXPECT_EQ(attribute_text(issued->fd.borrow(), "system.mapcap.rights"), std::string(to_string(rights)));
      EXPECT_EQ(attribute_text(issued->fd.borrow(), "system.mapcap.size"), std::to_string(kBytes.value));

      const GrantId grant = issued->grant;
      issued->fd.reset();
      KernelTime kernel(loop);
      (void)co_await kernel.pass(std::chrono::milliseconds(20));
      EXPECT_NE(released, grant) << "its mapping lives";
      ::munmap(map, kBytes.value);
      EXPECT_TRUE(co_await eventually(loop, [&] { return released == grant; }));
      keeper.drop(blank->region);
    }
    EXPECT_EQ(keeper.health().blanks_used, 2U);
    EXPECT_EQ(keeper.health().held, 0U);
  });
}

TEST_F(KeeperBlank, IsNoRegionAndGoesWhenItIsThrownAway) {
  REQUIRE_CLONES();
  with_keeper([&](Loop& loop, Keeper& keeper) -> Task<void> {
    const std::size_t before = co_await own_descriptors(loop, keeper);
    int released = 0;
    keeper.on_release([&](GrantId) { ++released; });
    {
      std::optional<Blank> blank = co_await next(loop, keeper, Access::read_write);
      CO_ASSERT(blank);
    }
    EXPECT_EQ(keeper.health().held, 0U);
    EXPECT_EQ(keeper.health().unheld, 0U);
    EXPECT_TRUE(keeper.unheld(100).empty());
    EXPECT_TRUE(co_await keeper.prepare_to_leave(kPatience));
    EXPECT_EQ(keeper.health().blanks, 0U);
    // What was on its way is let go of too.
    EXPECT_TRUE(co_await eventually(loop, [&] { return descriptors_of(keeper.pid()) <= before; }));
    EXPECT_EQ(released, 0) << "nobody was given any";
  });
}

// Promise 9
TEST_F(KeeperBlank, OfADeadKeeperIsWorthNothingButItsMemory) {
  REQUIRE_CLONES();
  with_keeper([&](Loop& loop, Keeper& keeper) -> Task<void> {
    std::optional<Blank> before = co_await next(loop, keeper, Access::read_write);
    std::optional<Blank> between = co_await next(loop, keeper, Access::read_write);
    CO_ASSERT(before && between);
    const Fd named = shape(*between);
    CO_ASSERT(keeper.clone().name_blank(*between, named.borrow(), label(kBytes, Access::read_write)));
    const pid_t old = keeper.pid();
    ::kill(old, SIGKILL);
    EXPECT_TRUE(co_await eventually(loop, [&] { return keeper.pid() != old && keeper.health().serving; }));
    EXPECT_EQ(keeper.health().blanks, 0U);

    const Fd memory = shape(*before);
    const auto refused =
        keeper.clone().name_blank(*before, memory.borrow(), label(kBytes, Access::read_write));
    CO_ASSERT(!refused);
    EXPECT_EQ(refused.error().code, ErrorCode::unavailable);
    EXPECT_FALSE(keeper.clone().issue_blank(*between));
    for (Blank* blank : {&*before, &*between}) {
      const BorrowedFd fd = blank == &*before ? memory.borrow() : named.borrow();
      EXPECT_TRUE((co_await keeper.hold(blank->region, fd)).has_value());
      blank->keep();
      auto issued = co_await keeper.clone().issue(blank->region, label(kBytes, Access::read_write), fd);
      EXPECT_TRUE(issued) << (issued ? "" : issued.error().sentence);
    }
    EXPECT_EQ(keeper.health().held, 2U);
    // The next keeper makes some, too.
    const std::optional<Blank> after = co_await next(loop, keeper, Access::read_write);
    EXPECT_TRUE(after);
  });
}

// Promise 9
TEST_F(KeeperBlank, OfADeadBrokerIsNobodysAndANamedOneIsAdopted) {
  REQUIRE_CLONES();
  std::optional<Issued> grant;
  RegionId region;
  pid_t first = 0;
  drive([&](Loop& loop) -> Task<void> {
    auto keeper = start();
    CO_ASSERT(keeper != nullptr);
    first = keeper->pid();
    keeper->attach(loop);
    std::optional<Blank> blank = co_await next(loop, *keeper, Access::read_write);
    CO_ASSERT(blank);
    const Fd memory = shape(*blank);
    CO_ASSERT(keeper->clone().name_blank(*blank, memory.borrow(), label(kBytes, Access::read_write)));
    CO_ASSERT((co_await keeper->hold(blank->region, memory.borrow())).has_value());
    blank->keep();
    region = blank->region;
    grant = keeper->clone().issue_blank(*blank);
    CO_ASSERT(grant);
    // Some more, whose end only the keeper sees.
    EXPECT_TRUE(co_await eventually(loop, [&] { return keeper->health().blanks > 0; }));
  });
  drive([&](Loop& loop) -> Task<void> {
    auto keeper = start();
    CO_ASSERT(keeper != nullptr);
    EXPECT_EQ(keeper->pid(), first);
    std::set<GrantId> released;
    keeper->on_release([&](GrantId one) { released.insert(one); });
    keeper->attach(loop);
    const std::vector<HeldMemory> held = keeper->take_held();
    CO_ASSERT(held.size() == 1);
    EXPECT_EQ(held.front().region, region);
    const std::vector<LiveGrant> live = keeper->take_live_grants();
    CO_ASSERT(live.size() == 1);
    EXPECT_EQ(live.front().grant, grant->grant);
    EXPECT_EQ(live.front().region, region);
    EXPECT_EQ(live.front().holder, (broker::confine::Holder{65534, 65533}));
    EXPECT_EQ(attribute_text(grant->fd.borrow(), "system.mapcap.name"), "alice/frames");
    grant->fd.reset();
    EXPECT_TRUE(co_await eventually(loop, [&] { return released.contains(live.front().grant); }));
    keeper->shut_down();
  });
}

TEST_F(KeeperBlank, AreNotMadeBeyondWhatDescriptorsAllow) {
  REQUIRE_CLONES();
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit small = before;
  small.rlim_cur = 64;
  with_keeper([&](Loop& loop, Keeper& keeper) -> Task<void> {
    ::setrlimit(RLIMIT_NOFILE, &small);
    for (int i = 0; i < 200; ++i) {
      (void)take(keeper, Access::read_write);
      co_await loop.yield();
      EXPECT_LE(keeper.health().blanks, 4U);
    }
    ::setrlimit(RLIMIT_NOFILE, &before);
  });
}

}  // namespace
}  // namespace mapcap::test
