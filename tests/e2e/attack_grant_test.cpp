// Promises 1 to 3: an unprivileged holder tries everything on a real grant, and nothing but mapping gets
// through; on a plain sealed memfd the same table reports holes, so it is not blind.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "tests/support/broker_process.h"

namespace mapcap::test {
namespace {

using testing::HasSubstr;

struct Case {
  SealKind seal;
  const char* rights;
};

class AttackGrantTest : public testing::TestWithParam<Case> {};

TEST_P(AttackGrantTest, NothingButMappingGetsThrough) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root: it starts mapcapd";
  BrokerProcess broker;
  broker.start();
  RegionSpec wanted;
  wanted.name = "root/target";
  wanted.size = 1U << 20U;
  wanted.seal = GetParam().seal;
  wanted.mode = 0666;
  wanted.lifetime = Lifetime::persistent();
  broker.connect().create(wanted);
  const CommandResult table =
      mapcap(broker, {"doctor", "--attack", "root/target", "--rights", GetParam().rights});
  EXPECT_EQ(table.status, 0) << table.out << table.err;
  EXPECT_THAT(table.out, HasSubstr("0 holes, 0 broken"));
  unsigned tried = 0;
  const std::size_t at = table.out.find(" operations tried");
  ASSERT_NE(at, std::string::npos) << table.out;
  const std::size_t before = table.out.rfind('\n', at);
  std::sscanf(table.out.c_str() + (before == std::string::npos ? 0 : before + 1), "%u", &tried);
  EXPECT_GE(tried, 200U);
}

INSTANTIATE_TEST_SUITE_P(RevocableRw, AttackGrantTest, testing::Values(Case{SealKind::revocable, "rw"}));
INSTANTIATE_TEST_SUITE_P(RevocableRo, AttackGrantTest, testing::Values(Case{SealKind::revocable, "ro"}));
INSTANTIATE_TEST_SUITE_P(SealedRw, AttackGrantTest, testing::Values(Case{SealKind::sealed, "rw"}));
INSTANTIATE_TEST_SUITE_P(SealedRo, AttackGrantTest, testing::Values(Case{SealKind::sealed, "ro"}));

TEST(AttackMemfd, TheSameTableFindsTheHolesOfAPlainSealedMemfd) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root: it changes to an unprivileged user";
  const CommandResult table = run_command({MAPCAP_PATH, "doctor", "--attack", "--memfd", "--rights", "rw"});
  EXPECT_EQ(table.status, 1) << table.out << table.err;
  EXPECT_THAT(table.out, testing::Not(HasSubstr(" 0 holes")));
}

}  // namespace
}  // namespace mapcap::test
