// Promise 4: what a region of memory needs is reserved when it is created, or refused there by the limit's
// name.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "base/machine/machine.h"
#include "base/machine/memory.h"
#include "broker/pool/memory.h"
#include "tests/support/places.h"

namespace mapcap::broker::pool {
namespace {

using testing::HasSubstr;

constexpr ByteCount kSize{1U << 20U};

class ReservationTest : public testing::Test {
 protected:
  std::unique_ptr<Pool> pool(bool populate = false) {
    MemoryOptions options;
    options.name = "dram";
    options.capacity = ByteCount{64U << 20U};
    options.seals = {SealKind::sealed, SealKind::revocable};
    options.populate = populate;
    options.places = {places.proc(), places.cgroups()};
    auto opened = open_memory(std::move(options));
    EXPECT_TRUE(opened) << opened.error().sentence;
    return std::move(opened.value());
  }
  static Carving carving(SealKind seal = SealKind::sealed, ByteCount size = kSize) {
    return {RegionId{1}, size, seal, CacheMode::write_back};
  }
  static std::uint64_t allocated(BorrowedFd fd) {
    struct stat status {};
    EXPECT_EQ(::fstat(fd.get(), &status), 0);
    return static_cast<std::uint64_t>(status.st_blocks) * 512;
  }
  static std::size_t descriptors() {
    return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator("/proc/self/fd"),
                                                  std::filesystem::directory_iterator{}));
  }
  static std::string detail(const Failure& error, const std::string& key) {
    for (const Detail& each : error.details) {
      if (each.key == key) return each.value;
    }
    return {};
  }

  test::FakePlaces places;
};

TEST_F(ReservationTest, UnderHeuristicOvercommitARegionIsSparseAndQuick) {
  const auto dram = pool();
  EXPECT_TRUE(dram->quick());
  auto extent = dram->carve(carving(), nullptr);
  ASSERT_TRUE(extent);
  EXPECT_EQ(allocated(extent.value().fd()), 0U);
}

TEST_F(ReservationTest, UnderStrictOvercommitEveryPageIsAccountedAtCreateWhateverTheSeal) {
  const auto dram = pool();
  places.write("proc/sys/vm/overcommit_memory", "2\n");  // While the broker runs, too.
  EXPECT_FALSE(dram->quick()) << "allocating takes as long as the region is large";
  for (const SealKind seal : {SealKind::sealed, SealKind::revocable}) {
    auto extent = dram->carve(carving(seal), nullptr);
    ASSERT_TRUE(extent) << extent.error().sentence;
    EXPECT_EQ(allocated(extent.value().fd()), kSize.value);
  }
}

TEST_F(ReservationTest, ARevokedSealedRegionKeepsItsPagesUnderStrictOvercommitSoThatHoldersDoNotFault) {
  places.write("proc/sys/vm/overcommit_memory", "2\n");
  const auto dram = pool();
  auto extent = dram->carve(carving(), nullptr);
  ASSERT_TRUE(extent);
  const int fd = extent.value().fd().get();
  ASSERT_EQ(::pwrite(fd, "secret", 6, 0), 6);
  ASSERT_EQ(::pwrite(fd, "secret", 6, kSize.value - 6), 6);
  ASSERT_TRUE(dram->cut(extent.value(), SealKind::sealed));
  EXPECT_EQ(allocated(extent.value().fd()), kSize.value);
  std::string bytes(kSize.value, 'x');
  ASSERT_EQ(::pread(fd, bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
  EXPECT_TRUE(std::all_of(bytes.begin(), bytes.end(), [](char byte) { return byte == 0; })) << "promise 5";
}

TEST_F(ReservationTest, ARevokedSealedRegionGivesItsPagesBackOtherwise) {
  const auto dram = pool();
  auto extent = dram->carve(carving(), nullptr);
  ASSERT_TRUE(extent);
  ASSERT_EQ(::pwrite(extent.value().fd().get(), "secret", 6, 0), 6);
  ASSERT_TRUE(dram->cut(extent.value(), SealKind::sealed));
  EXPECT_EQ(allocated(extent.value().fd()), 0U);
}

TEST_F(ReservationTest, APopulatedRegionThatTheBrokersCgroupHasNoRoomForIsRefusedByThatName) {
  places.write("proc/self/cgroup", "0::/system.slice/mapcapd.service\n");
  const std::string group = "cgroup/system.slice/mapcapd.service/";
  places.write(group + "memory.max", "33554432\n");      // 32 MiB, of which 8 are left to the broker
  places.write(group + "memory.current", "16777216\n");  // 16 MiB
  const std::size_t before = descriptors();
  const auto dram = pool(true);
  const auto refused = dram->carve(carving(SealKind::sealed, ByteCount{9U << 20U}), nullptr);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::pool_full);
  EXPECT_EQ(detail(refused.error(), "limit_name"), "memory cgroup");
  EXPECT_EQ(detail(refused.error(), "limit"), "33554432");
  EXPECT_THAT(refused.error().sentence, HasSubstr("/system.slice/mapcapd.service"));
  EXPECT_TRUE(dram->carve(carving(SealKind::sealed, ByteCount{8U << 20U}), nullptr)) << "the edge";
  // Page cache makes room before anybody is killed.
  places.write(group + "memory.stat", "anon 1\ninactive_file 1048576\nactive_file 1048576\nshmem 99\n");
  EXPECT_TRUE(dram->carve(carving(SealKind::sealed, ByteCount{9U << 20U}), nullptr));
  EXPECT_EQ(descriptors(), before + 1) << "the pool's own, no region's";
}

TEST_F(ReservationTest, TheLimitOfAGroupAboveBindsToo) {
  places.write("proc/self/cgroup", "12:cpu:/x\n4:memory:/jobs/mapcap\n0::/\n");
  places.write("cgroup/memory/jobs/memory.limit_in_bytes", "16777216\n");
  places.write("cgroup/memory/jobs/memory.usage_in_bytes", "12582912\n");
  places.write("cgroup/memory/jobs/mapcap/memory.limit_in_bytes", "9223372036854771712\n");
  places.write("cgroup/memory/jobs/mapcap/memory.usage_in_bytes", "12582912\n");
  const auto refused = pool(true)->carve(carving(), nullptr);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().sentence, HasSubstr("memory cgroup /jobs may have 16M"));
}

TEST_F(ReservationTest, APopulatedRegionThatTheMachineHasNoMemoryForIsRefusedBeforeAnybodyIsKilled) {
  places.write("proc/meminfo",
               "MemTotal:         1048576 kB\nMemAvailable:       33000 kB\nSwapFree:              0 kB\n");
  const auto refused = pool(true)->carve(carving(), nullptr);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::pool_full);
  EXPECT_EQ(detail(refused.error(), "limit_name"), "memory");
  places.write("proc/meminfo",
               "MemTotal:         1048576 kB\nMemAvailable:       33000 kB\nSwapFree:           1024 kB\n");
  EXPECT_TRUE(pool(true)->carve(carving(), nullptr));
}

TEST_F(ReservationTest, DoctorTellsWhatTheCommitLimitHasLeftWhereItBinds) {
  using machine::Presence;
  EXPECT_THAT(machine::memory_accounting(places.proc()).found, HasSubstr("not strict"));
  places.write("proc/sys/vm/overcommit_memory", "2\n");
  const machine::Fact strict = machine::memory_accounting(places.proc());
  EXPECT_EQ(strict.presence, Presence::present);
  EXPECT_THAT(strict.found, HasSubstr("7G of the commit limit of 8G are left"));
  places.write("proc/meminfo", "CommitLimit: 1024 kB\nCommitted_AS: 2048 kB\n");
  EXPECT_EQ(machine::memory_accounting(places.proc()).presence, Presence::missing);
}

TEST(FreeHugePages, AreCountedInTheBlocksOfTwoMebibytesAndMore) {
  const test::FakePlaces places;
  EXPECT_FALSE(machine::free_huge_pages(places.proc()));
  places.write("proc/buddyinfo",
               "Node 0, zone      DMA      1 0 0 0 0 0 0 0 9 0 3\n"
               "Node 0, zone   Normal      7 7 7 7 7 7 7 7 7 5 1\n");
  EXPECT_EQ(machine::free_huge_pages(places.proc()), 3U * 2 + 5 + 2);
}

// Needs no root: a file on a detached tmpfs does, and is left out where none can be had.
TEST_F(ReservationTest, APopulatedRegionOfHugePagesHasThemAllOrIsRefusedByThatName) {
  MemoryOptions options;
  options.name = "huge";
  options.capacity = ByteCount{64U << 20U};
  options.seals = {SealKind::revocable};
  options.populate = true;
  options.huge = true;
  auto opened = open_memory(options);
  if (!opened) GTEST_SKIP() << opened.error().sentence;
  auto extent = opened.value()->carve(carving(SealKind::revocable, ByteCount{4U << 20U}), nullptr);
  if (extent) {
    const Reservation machine;
    EXPECT_TRUE(machine.make_huge(extent.value().fd(), ByteCount{4U << 20U}));
  } else {
    EXPECT_EQ(detail(extent.error(), "limit_name"), "huge pages") << extent.error().sentence;
  }
  // A memfd has small pages where the machine does not say otherwise: not what was asked for.
  const Fd small(::memfd_create("small", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(small.get(), 4096), 0);
  const auto refused = Reservation().make_huge(small.borrow(), ByteCount{4096});
  ASSERT_FALSE(refused);
  EXPECT_EQ(detail(refused.error(), "limit_name"), "huge pages");
}

}  // namespace
}  // namespace mapcap::broker::pool
