// Bad blocks of device-DAX devices, with a directory in the place of sysfs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "broker/pool/devices/dax_node.h"

namespace mapcap::broker::pool {
namespace {

namespace fs = std::filesystem;
using device_holders::Range;
using testing::ElementsAre;
using testing::IsEmpty;

constexpr std::uint64_t kRegionStart = 0x100000000;
constexpr std::uint64_t kMega = 1U << 20U;

/// region0/{resource,badblocks}, and a device below it as the kernel nests them.
class DamagedPartsTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = "/tmp/mapcap-sysfs-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    root = pattern;
    device = root / "region0" / "dax0.0" / "dax0.0";
    fs::create_directories(device);
    std::ofstream(root / "region0" / "resource") << "0x100000000\n";
  }
  void TearDown() override { fs::remove_all(root); }
  /// Sectors from the region's beginning, as the kernel lists them.
  void damage(const std::string& lines) const { std::ofstream(root / "region0" / "badblocks") << lines; }

  fs::path root;
  fs::path device;
};

TEST_F(DamagedPartsTest, AreThoseOfTheRegionThatLieWithinTheDevice) {
  damage(
      "4094 4\n8190 4\n100000 1\n");  // Across its begin at 2 MiB, across its end at 4 MiB, and far behind.
  EXPECT_THAT(damaged_parts(device, {{kRegionStart + 2 * kMega, 2 * kMega}}),
              ElementsAre(ByteRange{0, 2 * kSector}, ByteRange{2 * kMega - 2 * kSector, 2 * kSector}));
}

TEST_F(DamagedPartsTest, AreToldInTheOrderOfTheDeviceThatLiesInPieces) {
  damage("0 1\n20480 1\n");  // At the region's first byte, and at 10 MiB.
  const std::vector<Range> pieces = {{kRegionStart + 10 * kMega, 2 * kMega}, {kRegionStart, 2 * kMega}};
  EXPECT_THAT(damaged_parts(device, pieces),
              ElementsAre(ByteRange{0, kSector}, ByteRange{2 * kMega, kSector}));
}

TEST_F(DamagedPartsTest, AreNoneBesideTheDeviceOrWhereNobodyKeepsAList) {
  EXPECT_THAT(damaged_parts(device, {{kRegionStart, 2 * kMega}}), IsEmpty());
  damage("4096 8\n");
  EXPECT_THAT(damaged_parts(device, {{kRegionStart, 2 * kMega}}), IsEmpty()) << "the first byte behind it";
  EXPECT_THAT(damaged_parts(device, {{kRegionStart + 2 * kMega, kMega}}),
              ElementsAre(ByteRange{0, 8 * kSector}));
}

}  // namespace
}  // namespace mapcap::broker::pool
