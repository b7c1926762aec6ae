// Pools of whole devices, with files in the devices' place; and what the policy may say wrongly about them.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "broker/pool/devices/dax_device.h"
#include "broker/pool/devices/device_pool.h"
#include "broker/pool/devices/pci_bar.h"

namespace mapcap::broker::pool {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr ByteCount kSmall{4U << 20U};
constexpr ByteCount kLarge{8U << 20U};

class DevicePoolTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = "/tmp/mapcap-devices-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    directory = pattern;
    pool = make();
  }
  void TearDown() override { fs::remove_all(directory); }

  std::unique_ptr<Pool> make() {
    DevicePoolParts parts;
    parts.facts.name = "devices";
    parts.facts.backing = "dax-device";
    parts.facts.cache_modes = {CacheMode::write_back};
    parts.devices = {device("large", kLarge), device("small", kSmall)};
    parts.bad_blocks = [this](const Device& each) { return damaged == each.size ? 8U : 0U; };
    parts.check = [this](const Device& each, const Device::Mode& mode) -> Result<void> {
      if (damaged != each.size) return ok();
      return failure(ErrorCode::io, mode.path + " has bad blocks");
    };
    parts.held = [this](const Device&, BorrowedFd) -> Result<bool> { return held; };
    return make_device_pool(std::move(parts));
  }
  /// A file in a device's place, full of what an old tenant left.
  Device device(const std::string& name, ByteCount size) const {
    const std::string path = directory + "/" + name;
    if (!fs::exists(path)) std::ofstream(path) << std::string(size.value, 'o');
    return {{{CacheMode::write_back, path}}, size};
  }
  Result<Extent> carve(ByteCount size) {
    return pool->carve({RegionId{1}, size, SealKind::revocable, CacheMode::write_back}, nullptr);
  }

  std::string directory;
  bool held = false;
  ByteCount damaged;  ///< The size of the device that has bad blocks.
  std::unique_ptr<Pool> pool;
};

TEST_F(DevicePoolTest, TheSmallestFreeDeviceThatFitsIsGivenWhole) {
  EXPECT_EQ(pool->size_for({1}, CacheMode::write_back).value(), kSmall);
  EXPECT_EQ(pool->size_for(kSmall, CacheMode::write_back).value(), kSmall);
  EXPECT_EQ(pool->size_for({kSmall.value + 1}, CacheMode::write_back).value(), kLarge);
  EXPECT_EQ(pool->size_for({kLarge.value + 1}, CacheMode::write_back).error().code, ErrorCode::pool_full);
  EXPECT_EQ(pool->size_for({1}, CacheMode::uncached).error().code, ErrorCode::pool_full);
  auto taken = carve(kSmall);
  ASSERT_TRUE(taken) << taken.error().sentence;
  EXPECT_EQ(pool->size_for({1}, CacheMode::write_back).value(), kLarge);
  EXPECT_EQ(carve(kSmall).error().code, ErrorCode::pool_full);
}

TEST_F(DevicePoolTest, NothingOfAnOldTenantIsLeftInANewRegion) {  // Promise 6
  auto taken = carve(kLarge);
  ASSERT_TRUE(taken) << taken.error().sentence;
  std::ifstream file(directory + "/large");
  const std::string bytes((std::istreambuf_iterator<char>(file)), {});
  EXPECT_EQ(bytes, std::string(kLarge.value, '\0'));
}

TEST_F(DevicePoolTest, AGrantedDeviceIsFreeOnlyWhenItIsKnownThatNobodyHasIt) {  // Promise 7
  auto taken = carve(kSmall);
  ASSERT_TRUE(taken);
  Extent extent = std::move(taken.value());
  extent.keep();
  EXPECT_FALSE(pool->held(extent).value()) << "never granted";
  pool->granting(extent);
  held = true;
  EXPECT_TRUE(pool->held(extent).value());
  EXPECT_EQ(pool->cut(extent, SealKind::revocable).error().code, ErrorCode::unsupported);
  held = false;
  EXPECT_TRUE(pool->cut(extent, SealKind::revocable));
  ASSERT_TRUE(pool->free(extent, nullptr));
  EXPECT_EQ(pool->size_for({1}, CacheMode::write_back).value(), kSmall);
}

TEST_F(DevicePoolTest, ADeviceWhoseGrantWasNeverMadeIsFreeAgain) {
  auto taken = carve(kSmall);
  ASSERT_TRUE(taken);
  Extent extent = std::move(taken.value());
  extent.keep();
  EXPECT_TRUE(pool->granting(extent));
  EXPECT_FALSE(pool->granting(extent)) << "it is noted once";
  held = true;
  pool->never_granted(extent);
  EXPECT_FALSE(pool->held(extent).value()) << "nobody was asked: nobody can have it";
  EXPECT_TRUE(pool->cut(extent, SealKind::revocable));
  held = false;
  ASSERT_TRUE(pool->free(extent, nullptr));
}

TEST_F(DevicePoolTest, ADeviceThatIsNoRegionsButSomebodyHasIsGivenToNobody) {  // Promise 6
  held = true;
  EXPECT_EQ(carve(kSmall).error().code, ErrorCode::busy);
  std::ifstream file(directory + "/small");
  EXPECT_EQ(file.get(), 'o') << "it was scrubbed under whoever has it";
  held = false;
  EXPECT_TRUE(carve(kSmall));
}

TEST_F(DevicePoolTest, ADeviceThatABootHasRenamedIsFoundByItsIdentity) {  // Promise 6
  const auto two = [this](const std::string& first, const std::string& second) {
    DevicePoolParts parts;
    parts.facts.name = "devices";
    parts.facts.cache_modes = {CacheMode::write_back};
    parts.devices = {device(first, kSmall), device(second, kSmall)};
    parts.devices[0].identity = "one";
    parts.devices[1].identity = "two";
    pool = make_device_pool(std::move(parts));
  };
  two("dax0.0", "dax0.1");
  auto taken = carve(kSmall);
  ASSERT_TRUE(taken) << taken.error().sentence;
  ledger::RegionRecord record;
  record.size = kSmall;
  record.extent = taken.value().word();
  taken.value().keep();

  two("dax0.1", "dax0.0");
  ASSERT_TRUE(pool->reattach(record, {}));
  EXPECT_EQ(pool->size_for({1}, CacheMode::write_back).value(), kSmall) << "the other device is still free";
  std::ofstream(directory + "/dax0.1", std::ios::in | std::ios::out) << "kept";
  ASSERT_TRUE(carve(kSmall));
  std::string head(4, ' ');
  std::ifstream(directory + "/dax0.1").read(head.data(), 4);
  EXPECT_EQ(head, "kept") << "the next region was made of the first one's device";
}

TEST_F(DevicePoolTest, ARestartedBrokerFindsItsDeviceAndTakesItAsGranted) {  // Promise 9
  ledger::RegionRecord record;
  {
    auto taken = carve(kSmall);
    ASSERT_TRUE(taken);
    record.name = "root/a";
    record.size = taken.value().size();
    record.extent = taken.value().word();
    taken.value().keep();
  }
  held = true;
  pool = make();
  auto found = pool->reattach(record, {});
  ASSERT_TRUE(found) << found.error().sentence;
  EXPECT_TRUE(pool->held(found.value()).value());
  EXPECT_EQ(pool->size_for({1}, CacheMode::write_back).value(), kLarge) << "its device is taken";
  record.extent += 1;
  EXPECT_EQ(pool->reattach(record, {}).error().code, ErrorCode::lost);
}

TEST_F(DevicePoolTest, ADeviceOfALostRegionIsGivenToNobodyAndATakenOneIsNoLostRegions) {
  ledger::RegionRecord record;
  {
    const auto taken = carve(kSmall);
    ASSERT_TRUE(taken);
    record.size = taken.value().size();
    record.extent = taken.value().word();
  }
  pool = make();
  ASSERT_TRUE(pool->sweep({.words = {record.extent}}));  // A record of another pool, say.
  EXPECT_EQ(carve(kSmall).error().code, ErrorCode::pool_full);
  EXPECT_TRUE(carve(kLarge));

  pool = make();
  ASSERT_TRUE(pool->sweep({}));
  const auto tenant = carve(kSmall);
  ASSERT_TRUE(tenant);
  EXPECT_EQ(pool->reattach(record, {}).error().code, ErrorCode::lost) << "two regions on one device";
}

TEST_F(DevicePoolTest, BadBlocksAreToldAndNeverGrantedAfresh) {
  auto taken = carve(kSmall);
  ASSERT_TRUE(taken);
  EXPECT_EQ(pool->bad_blocks(taken.value().word()), 0U);
  damaged = kSmall;
  EXPECT_EQ(pool->bad_blocks(taken.value().word()), 8U);
  { const Extent undone = std::move(taken.value()); }
  EXPECT_THAT(carve(kSmall).error().sentence, HasSubstr("bad blocks"));
  EXPECT_TRUE(carve(kLarge));
}

TEST_F(DevicePoolTest, ADamagedDeviceIsLeftOutWhileAnotherWillDo) {
  std::string unfit = directory + "/first";
  DevicePoolParts parts;
  parts.facts.name = "twins";
  parts.facts.cache_modes = {CacheMode::write_back};
  parts.devices = {device("first", kSmall), device("second", kSmall)};
  parts.check = [&](const Device&, const Device::Mode& mode) -> Result<void> {
    if (mode.path != unfit) return ok();
    return failure(ErrorCode::io, mode.path + " has bad blocks");
  };
  pool = make_device_pool(std::move(parts));
  auto second = carve(kSmall);
  ASSERT_TRUE(second) << second.error().sentence;
  EXPECT_THAT(carve(kSmall).error().sentence, HasSubstr("/first has bad blocks"));
  unfit.clear();
  EXPECT_TRUE(carve(kSmall)) << "the damaged one was not kept";
}

TEST_F(DevicePoolTest, AnUndoneCarvingGivesTheDeviceBack) {
  { auto undone = carve(kSmall); }
  EXPECT_EQ(pool->size_for({1}, CacheMode::write_back).value(), kSmall);
}

TEST_F(DevicePoolTest, BadDevicesInThePolicyAreRefusedByName) {
  auto missing = open_dax_device({"nv", {"/dev/dax99.99"}, nullptr, {}});
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ErrorCode::not_found);
  EXPECT_THAT(missing.error().sentence, testing::AllOf(HasSubstr("nv"), HasSubstr("/dev/dax99.99")));
  EXPECT_EQ(open_dax_device({"nv", {"/dev/null"}, nullptr, {}}).error().code, ErrorCode::invalid);
  EXPECT_EQ(open_dax_device({"nv", {directory + "/small"}, nullptr, {}}).error().code, ErrorCode::invalid);

  PciBarOptions bars;
  bars.name = "bar";
  bars.locks = directory + "/locks";
  bars.resources = {"/sys/bus/pci/devices/ffff:ff:1f.7/resource0"};
  EXPECT_EQ(open_pci_bar(bars).error().code, ErrorCode::not_found);
  bars.resources = {directory + "/small"};
  EXPECT_EQ(open_pci_bar(bars).error().code, ErrorCode::invalid);
}

}  // namespace
}  // namespace mapcap::broker::pool
