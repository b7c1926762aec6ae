// Promises 1, 2 and 3 on this machine: the whole attack table against grants of a running broker, as a
// stranger who holds the fd.
#include <gtest/gtest.h>
#include <unistd.h>

#include <sstream>

#include "client/cli/attack/attack.h"
#include "tests/support/broker_process.h"

namespace mapcap::test {
namespace {

constexpr std::uint64_t kSize = 1U << 20U;

struct Kind {
  const char* name;
  SealKind seal;
  Access rights;
};

class AttackOnAGrant : public testing::TestWithParam<Kind> {};

TEST_P(AttackOnAGrant, FindsNoHoleAndNothingBroken) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root: it starts mapcapd, and becomes a stranger to it";
  BrokerProcess broker;
  broker.start();
  Client owner = broker.connect();
  RegionSpec spec;
  spec.name = "root/attacked";
  spec.size = kSize;
  spec.lifetime = Lifetime::persistent();
  spec.seal = GetParam().seal;
  const Grant grant = owner.create(spec, GetParam().rights);
  if (grant.info().confinement == Confinement::sealed) {
    GTEST_SKIP() << "this machine enforces no confinement (mapcap doctor tells why)";
  }

  const std::vector<attack::Outcome> outcomes = attack::run(
      {grant.fd(),
       grant.rights() == Access::read_only ? schema::Access::read_only : schema::Access::read_write,
       grant.size(), static_cast<schema::Confinement>(grant.info().confinement)});

  const attack::Summary sum = attack::summarize(outcomes);
  std::ostringstream findings;
  attack::print_table(findings, outcomes, attack::Rows::findings);
  EXPECT_EQ(sum.operations, attack::operation_count());
  EXPECT_EQ(sum.holes, 0U) << findings.str();
  EXPECT_EQ(sum.broken, 0U) << findings.str();
}

INSTANTIATE_TEST_SUITE_P(Kinds, AttackOnAGrant,
                         testing::Values(Kind{"sealed_rw", SealKind::sealed, Access::read_write},
                                         Kind{"sealed_ro", SealKind::sealed, Access::read_only},
                                         Kind{"revocable_rw", SealKind::revocable, Access::read_write},
                                         Kind{"revocable_ro", SealKind::revocable, Access::read_only}),
                         [](const auto& kind) { return kind.param.name; });

}  // namespace
}  // namespace mapcap::test
