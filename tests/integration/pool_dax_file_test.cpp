// Regions as files, on whatever filesystem the tests run: everything but DAX itself.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <fstream>

#include "broker/pool/bad_blocks.h"
#include "broker/pool/files/dax_file.h"
#include "broker/pool/files/region_files.h"

namespace mapcap::broker::pool {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr ByteCount kSize{64U << 10U};

class DaxFilePoolTest : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root: the pool's directory is root's";
    std::string pattern = "/tmp/mapcap-dax-file-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    path = pattern;
    options.name = "pmem";
    options.path = path;
    options.capacity = ByteCount{16U << 20U};
  }
  void TearDown() override {
    if (path.empty()) return;
    for (const auto& entry : fs::directory_iterator(path)) clear_append(entry.path());
    fs::remove_all(path);
  }

  static void clear_append(const fs::path& file) {
    const Fd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
    int flags = 0;
    if (::ioctl(fd.get(), FS_IOC_GETFLAGS, &flags) != 0) return;
    flags &= ~FS_APPEND_FL;
    ::ioctl(fd.get(), FS_IOC_SETFLAGS, &flags);
  }

  std::unique_ptr<Pool> open() {
    auto opened = open_dax_file(options);
    EXPECT_TRUE(opened) << opened.error().sentence;
    return opened ? std::move(opened.value()) : nullptr;
  }
  /// A carving that was recorded.
  static Extent carve(Pool& pool, std::uint64_t id) {
    auto carved = pool.carve({RegionId{id}, kSize, SealKind::revocable}, nullptr);
    EXPECT_TRUE(carved) << carved.error().sentence;
    if (!carved) return {};
    carved.value().keep();
    return std::move(carved.value());
  }
  static ledger::RegionRecord record_of(const Extent& extent, RegionState state = RegionState::live) {
    ledger::RegionRecord record;
    record.id = {extent.word()};
    record.name = "root/a";
    record.size = extent.size();
    record.extent = extent.word();
    record.state = state;
    record.volatile_memory = false;
    return record;
  }
  [[nodiscard]] std::size_t files() const {
    return static_cast<std::size_t>(std::distance(fs::directory_iterator(path), fs::directory_iterator{}));
  }
  static std::size_t descriptors() {
    return static_cast<std::size_t>(
        std::distance(fs::directory_iterator("/proc/self/fd"), fs::directory_iterator{}));
  }
  ErrorCode refusal(std::string* sentence = nullptr) {
    auto opened = open_dax_file(options);
    EXPECT_FALSE(opened);
    if (opened) return {};
    if (sentence != nullptr) *sentence = opened.error().sentence;
    return opened.error().code;
  }

  std::string path;
  DaxFileOptions options;
};

TEST_F(DaxFilePoolTest, EveryByteIsAllocatedWrittenAndZero) {  // Promises 4 and 6
  const auto pool = open();
  std::vector<std::uint64_t> progress;
  auto carved = pool->carve({RegionId{7}, kSize, SealKind::revocable},
                            [&](ByteCount done, ByteCount) { progress.push_back(done.value); });
  ASSERT_TRUE(carved) << carved.error().sentence;
  struct stat status {};
  ASSERT_EQ(::fstat(carved.value().fd().get(), &status), 0);
  EXPECT_EQ(static_cast<std::uint64_t>(status.st_size), kSize.value);
  EXPECT_GE(static_cast<std::uint64_t>(status.st_blocks) * 512, kSize.value);
  EXPECT_EQ(status.st_mode & 0777U, 0600U);
  std::vector<char> bytes(kSize.value, 'x');
  ASSERT_EQ(::pread(carved.value().fd().get(), bytes.data(), bytes.size(), 0),
            static_cast<ssize_t>(bytes.size()));
  EXPECT_EQ(std::count(bytes.begin(), bytes.end(), '\0'), static_cast<std::ptrdiff_t>(bytes.size()));
  EXPECT_EQ(progress.back(), kSize.value);
}

TEST_F(DaxFilePoolTest, ADirectoryWithoutDaxIsToldToNeedMsync) {  // Promise 10
  const auto pool = open();
  if (pool->facts().durability.granularity == Granularity::none) GTEST_SKIP() << "/tmp is a tmpfs";
  EXPECT_EQ(pool->facts().durability,
            (Durability{Granularity::page, PersistenceDomain::block_device, false}));
  EXPECT_FALSE(pool->facts().volatile_memory);
  EXPECT_THAT(pool->facts().seals, testing::ElementsAre(SealKind::revocable));
}

TEST_F(DaxFilePoolTest, ACutMappingFaultsAndTheFileGoesOnlyWithFree) {  // Promise 5
  const auto pool = open();
  Extent extent = carve(*pool, 1);
  {
    const std::string link = "/proc/self/fd/" + std::to_string(extent.fd().get());
    const Fd holder(::open(link.c_str(), O_RDWR | O_CLOEXEC));
    ASSERT_TRUE(holder.valid());
    auto* bytes = static_cast<char*>(::mmap(nullptr, kSize.value, PROT_WRITE, MAP_SHARED, holder.get(), 0));
    ASSERT_NE(bytes, MAP_FAILED);
    bytes[0] = 1;
    int flags = 0;
    ::ioctl(extent.fd().get(), FS_IOC_GETFLAGS, &flags);
    flags |= FS_APPEND_FL;
    ::ioctl(extent.fd().get(), FS_IOC_SETFLAGS, &flags);  // As the clone confiner does.
    ASSERT_TRUE(pool->cut(extent, SealKind::revocable));
#ifndef MAPCAP_SANITIZED  // Sanitizers take SIGBUS before the default does.
    EXPECT_EXIT(bytes[0] = 2, testing::KilledBySignal(SIGBUS), "");
#else
    EXPECT_DEATH(bytes[0] = 2, "");
#endif
    ::munmap(bytes, kSize.value);
  }
  EXPECT_EQ(files(), 1U);
  ASSERT_TRUE(pool->cut(extent, SealKind::revocable));  // Restartable.
  ASSERT_TRUE(pool->free(extent, nullptr));
  EXPECT_EQ(files(), 0U);
}

TEST_F(DaxFilePoolTest, HeldIsTrueWhileAnyDescriptorOrMappingIsLeft) {  // Promise 7
  const auto pool = open();
  Extent extent = carve(*pool, 1);
  EXPECT_FALSE(pool->held(extent).value());
  const std::string link = "/proc/self/fd/" + std::to_string(extent.fd().get());
  for (const int access : {O_RDONLY, O_RDWR}) {
    Fd holder(::open(link.c_str(), access | O_CLOEXEC));
    EXPECT_TRUE(pool->held(extent).value());
    void* address = ::mmap(nullptr, kSize.value, PROT_READ, MAP_SHARED, holder.get(), 0);
    holder.reset();
    EXPECT_TRUE(pool->held(extent).value()) << "a mapping without descriptor";
    ::munmap(address, kSize.value);
    EXPECT_FALSE(pool->held(extent).value());
  }
}

TEST_F(DaxFilePoolTest, AnUndoneCarvingLeavesNoFileBehindTheNext) {
  const auto pool = open();
  { auto undone = pool->carve({RegionId{1}, kSize, SealKind::revocable}, nullptr); }
  ASSERT_TRUE(pool->free_discarded());
  EXPECT_EQ(files(), 0U);
}

TEST_F(DaxFilePoolTest, TheNextBrokerFindsWhatRecordsNameAndRemovesTheRest) {  // Promise 9
  std::uint64_t kept = 0;
  ledger::RegionRecord record;
  {
    const auto pool = open();
    Extent named = carve(*pool, 1);
    kept = named.word();
    record = record_of(named);
    (void)carve(*pool, 2);  // Its broker died before it was recorded.
  }
  std::ofstream(path + "/notes") << "an administrator's";
  const auto pool = open();
  auto found = pool->reattach(record, {});
  ASSERT_TRUE(found) << found.error().sentence;
  EXPECT_EQ(found.value().word(), kept);
  ASSERT_TRUE(pool->sweep({}));
  EXPECT_EQ(files(), 2U);
  EXPECT_TRUE(fs::exists(path + "/notes"));
}

TEST_F(DaxFilePoolTest, WhileRecordsAreDamagedOnlyBlankFilesOfNobodyGo) {
  {
    const auto pool = open();
    const Extent used = carve(*pool, 1);
    const Extent blank = carve(*pool, 2);
  }
  std::fstream(path + "/region-00000000-0000000000000001", std::ios::in | std::ios::out)
      .seekp(kSize.value - 1)
      .put('x');
  auto pool = open();
  auto swept = pool->sweep({.words = {}, .complete = false});
  ASSERT_FALSE(swept);
  EXPECT_THAT(swept.error().sentence, HasSubstr("region-disowned-00000000-0000000000000001"));
  EXPECT_EQ(files(), 1U);
  pool.reset();
  pool = open();
  EXPECT_FALSE(pool->sweep({})) << "a start with all records no longer tells of it";
  EXPECT_EQ(fs::file_size(path + "/region-disowned-00000000-0000000000000001"), kSize.value);
}

TEST_F(DaxFilePoolTest, ALeftoverThatCannotBeRemovedDoesNotTakeTheNextRegionsName) {
  std::ofstream(path + "/region-00000000-0000000000000001") << "left over";
  const auto pool = open();
  Extent extent = carve(*pool, 1);
  EXPECT_NE(extent.word(), 1U);
  EXPECT_TRUE(pool->reattach(record_of(extent), {}));
}

TEST_F(DaxFilePoolTest, AMissingOrShortenedFileOfALiveRegionIsLostAndOfAHalfRevokedOneIsFine) {
  const auto pool = open();
  Extent extent = carve(*pool, 1);
  ASSERT_TRUE(pool->cut(extent, SealKind::revocable));
  EXPECT_EQ(pool->reattach(record_of(extent), {}).error().code, ErrorCode::lost);
  EXPECT_TRUE(pool->reattach(record_of(extent, RegionState::revoking), {}));
  const ledger::RegionRecord record = record_of(extent, RegionState::scrubbing);
  ASSERT_TRUE(pool->free(extent, nullptr));
  EXPECT_EQ(pool->reattach(record, {}).error().code, ErrorCode::lost);
}

TEST_F(DaxFilePoolTest, AStepThatFailsOnceLeavesNothingBehind) {
  std::vector<std::string> steps;
  options.fault = [&](std::string_view call) {
    steps.emplace_back(call);
    return 0;
  };
  std::size_t total = 0;
  {
    const auto pool = open();
    Extent extent = carve(*pool, 1);
    ASSERT_TRUE(pool->cut(extent, SealKind::revocable));
    ASSERT_TRUE(pool->free(extent, nullptr));
    total = steps.size();
  }
  EXPECT_GE(total, 8U);
  const std::size_t before = descriptors();
  for (std::size_t failing = 0; failing < total; ++failing) {
    std::size_t step = 0;
    options.fault = [&](std::string_view) { return step++ == failing ? EIO : 0; };
    const auto pool = open();
    auto carved = pool->carve({RegionId{1}, kSize, SealKind::revocable}, nullptr);
    if (carved) {
      Extent extent = std::move(carved.value());
      extent.keep();
      const bool first = pool->cut(extent, SealKind::revocable) && pool->free(extent, nullptr);
      if (!first) {
        ASSERT_TRUE(pool->cut(extent, SealKind::revocable)) << "step " << failing;
        ASSERT_TRUE(pool->free(extent, nullptr)) << "step " << failing;
      }
    } else {
      EXPECT_EQ(carved.error().code, ErrorCode::io) << steps.at(failing);
      (void)pool->free_discarded();
    }
    EXPECT_EQ(files(), 0U) << "step " << failing << ", " << steps.at(failing);
  }
  EXPECT_EQ(descriptors(), before);
}

TEST_F(DaxFilePoolTest, AFullFilesystemIsAFullPool) {
  options.fault = [](std::string_view call) { return call == "allocate" ? ENOSPC : 0; };
  const auto pool = open();
  auto carved = pool->carve({RegionId{1}, kSize, SealKind::revocable}, nullptr);
  ASSERT_FALSE(carved);
  EXPECT_EQ(carved.error().code, ErrorCode::pool_full);
  EXPECT_THAT(carved.error().sentence, HasSubstr("pmem"));
  EXPECT_EQ(files(), 0U);
}

TEST_F(DaxFilePoolTest, BadInputIsRefusedWithTheReason) {
  std::string sentence;
  options.path = path + "/missing";
  EXPECT_EQ(refusal(&sentence), ErrorCode::not_found);
  EXPECT_THAT(sentence, HasSubstr("install -d -m 0700"));
  std::ofstream(path + "/file") << "x";
  options.path = path + "/file";
  EXPECT_EQ(refusal(&sentence), ErrorCode::invalid);
  EXPECT_THAT(sentence, HasSubstr("not a directory"));
  options.path = path;
  ASSERT_EQ(::chmod(path.c_str(), 0710), 0);
  EXPECT_EQ(refusal(&sentence), ErrorCode::invalid);
  EXPECT_THAT(sentence, HasSubstr("chmod 0700"));
  ASSERT_EQ(::chmod(path.c_str(), 0700), 0);
  options.capacity = ByteCount{1ULL << 60U};
  EXPECT_EQ(refusal(&sentence), ErrorCode::invalid);
  EXPECT_THAT(sentence, HasSubstr("capacity"));
  options.capacity = ByteCount{16U << 20U};
  const auto pool = open();
  EXPECT_EQ(refusal(&sentence), ErrorCode::busy);
}

TEST_F(DaxFilePoolTest, EachDamagedFileKeepsItsOwnBlocksBack) {
  const RegionFiles files_of(Fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)), "pool", 0,
                             nullptr);
  for (int attempt = 0; attempt < 2; ++attempt) {  // of one create
    auto file = files_of.make(7);
    ASSERT_TRUE(file) << file.error().sentence;
    ASSERT_TRUE(files_of.allocate(file.value().borrow(), kSize));
    auto aside = files_of.set_aside(file.value().borrow(), 7, kSize, {{0, kSector}});
    ASSERT_TRUE(aside) << aside.error().sentence;
  }
  EXPECT_EQ(files_of.list(FileKind::damaged).value().size(), 2U);
}

TEST(BadBlocksTest, AListIsRelativeToItsPartition) {
  EXPECT_THAT(
      parse_bad_blocks("8 2\n100 8\n", 0),
      testing::ElementsAre(ByteRange{8 * kSector, 2 * kSector}, ByteRange{100 * kSector, 8 * kSector}));
  EXPECT_THAT(parse_bad_blocks("8 2\n96 8\n", 100), testing::ElementsAre(ByteRange{0, 4 * kSector}));
  EXPECT_TRUE(parse_bad_blocks("", 0).empty());
}

TEST(BadBlocksTest, OnlyTheOverlapIsDamagedInTheFile) {
  const std::vector<FileExtent> extents{{0, 8192, 4096}, {4096, 65536, 8192}};
  EXPECT_TRUE(damaged_parts(extents, {{4096, 4096}, {12288, 4096}}).empty()) << "both sides of an edge";
  EXPECT_THAT(damaged_parts(extents, {{69632, 512}, {12287, 2}}),
              testing::ElementsAre(ByteRange{4095, 1}, ByteRange{8192, 512}));
}

}  // namespace
}  // namespace mapcap::broker::pool
