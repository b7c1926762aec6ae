// No descriptor is left: what fails says so, and leaves nothing behind.
#include <sys/resource.h>

#include "tests/support/keeper_life.h"

namespace mapcap::test {
namespace {

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
  with_keeper([&](Loop&, Keeper& keeper) -> Task<void> {
    const Fd fd = memory(kSize);
    // Each of a region that was not opened before: of one that is opened again more are made ahead, a moment later.
    for (std::uint64_t region = 1; region <= 3; ++region)
      CO_ASSERT(keeper.clone().attach(RegionId{region}, fd.borrow(), kSize));
    auto warm = co_await keeper.clone().issue(RegionId{1}, label(kSize, Access::read_only));
    CO_ASSERT(warm);
    const std::size_t before = descriptors_of(::getpid());
    // It needs one, itself.
    for (const std::size_t spare : {0U, 1U}) {
      rlimit usual{};
      CO_ASSERT(::getrlimit(RLIMIT_NOFILE, &usual) == 0);
      const rlimit tight{before + 64, usual.rlim_max};
      CO_ASSERT(::setrlimit(RLIMIT_NOFILE, &tight) == 0);
      std::vector<Fd> filling;
      for (Fd copy(::dup(fd.get())); copy.valid(); copy = Fd(::dup(fd.get()))) {
        filling.push_back(std::move(copy));
      }
      CO_ASSERT(filling.size() > spare);
      filling.resize(filling.size() - spare);
      auto issued = co_await keeper.clone().issue(RegionId{2 + spare}, label(kSize, Access::read_only));
      filling.clear();
      CO_ASSERT(::setrlimit(RLIMIT_NOFILE, &usual) == 0);
      EXPECT_EQ(issued.has_value(), spare > 0);
      if (!issued) {
        EXPECT_EQ(issued.error().code, ErrorCode::exhausted);
      } else {
        issued.value().fd.reset();
      }
      EXPECT_EQ(descriptors_of(::getpid()), before);
    }
  });
}

}  // namespace
}  // namespace mapcap::test
