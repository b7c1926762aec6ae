// The memory pools together: absolute and percent, at both edges of what the machine has.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "policy/machine_share.h"

namespace mapcap::policy {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr ByteCount kMachine{23ULL << 30U};

PoolSettings pool(const std::string& name, Capacity capacity, Backing backing = Backing::memory) {
  PoolSettings settings;
  settings.name = name;
  settings.where = "p.toml:" + std::to_string(name.size());
  settings.backing = backing;
  settings.capacity = capacity;
  return settings;
}

TEST(MachineShare, TwoPoolsThatTogetherAreMoreThanTheMachineAreRefusedWithTheSum) {
  const auto refused =
      check_machine({pool("a", ByteCount{20ULL << 30U}), pool("bb", ByteCount{20ULL << 30U})}, kMachine);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::invalid);
  EXPECT_THAT(refused.error().sentence,
              AllOf(HasSubstr("p.toml:2: the memory pools together take 40G (a 20G + bb 20G)"),
                    HasSubstr("more than this machine's memory of 23G")));
}

TEST(MachineShare, PercentAndBytesCountTogetherToThePage) {
  const ByteCount half = resolved(Percent{50}, kMachine);
  const ByteCount rest{kMachine.value - half.value};
  EXPECT_TRUE(check_machine({pool("a", Percent{50}), pool("b", rest)}, kMachine));
  EXPECT_FALSE(check_machine({pool("a", Percent{50}), pool("b", ByteCount{rest.value + 1})}, kMachine));
  EXPECT_TRUE(check_machine({pool("a", Percent{100})}, kMachine));
}

TEST(MachineShare, OnlyMemoryCounts) {
  EXPECT_TRUE(check_machine(
      {pool("a", ByteCount{20ULL << 30U}), pool("b", ByteCount{20ULL << 30U}, Backing::dax_file)}, kMachine));
}

TEST(MachineShare, ASumThatNoNumberHoldsIsRefusedToo) {
  const ByteCount huge{~std::uint64_t{0} / 2 + 2};
  EXPECT_FALSE(check_machine({pool("a", huge), pool("b", huge)}, kMachine));
}

}  // namespace
}  // namespace mapcap::policy
