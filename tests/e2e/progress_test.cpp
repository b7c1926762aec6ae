// How far a create has come is told while its memory is prepared.
#include <gtest/gtest.h>
#include <unistd.h>

#include <utility>
#include <vector>

#include "tests/support/broker_process.h"

namespace mapcap::test {
namespace {

TEST(ProgressTest, ACreateTellsHowMuchOfItsMemoryIsPrepared) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root: it starts mapcapd";
  BrokerProcess broker(open_policy("", "populate = true\n"));
  broker.start();
  RegionSpec wanted;
  wanted.name = "root/populated";
  wanted.size = 160U << 20U;  // Pages are allocated 64 MiB at a time.
  std::vector<std::pair<std::uint64_t, std::uint64_t>> told;
  const RegionInfo made = broker.connect().create(
      wanted, [&](std::uint64_t done, std::uint64_t total) { told.emplace_back(done, total); });
  EXPECT_EQ(made.size, wanted.size);
  ASSERT_EQ(told.size(), 3U);
  std::uint64_t before = 0;
  for (const auto& [done, total] : told) {
    EXPECT_GT(done, before);
    EXPECT_EQ(total, wanted.size);
    before = done;
  }
  EXPECT_EQ(before, wanted.size);
}

}  // namespace
}  // namespace mapcap::test
