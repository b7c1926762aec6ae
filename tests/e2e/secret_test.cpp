// memfd_secret can be neither punched, truncated nor opened twice: promise 5 is kept by zeroing it.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>

#include "tests/support/backends.h"
#include "tests/support/broker_process.h"

namespace mapcap::test {
namespace {

class SecretTest : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string missing = what_lacks(Backend::secret); !missing.empty()) GTEST_SKIP() << missing;
    broker.start();
  }
  static Mapping create(Client& client) {
    RegionSpec wanted;
    wanted.name = "root/secret";
    wanted.size = 1U << 20U;
    wanted.lifetime = Lifetime::persistent();
    return Mapping(client.create(wanted, Access::read_write));
  }

  BackendScratch scratch{Backend::secret};
  BrokerProcess broker{scratch.policy("16M")};
};

TEST_F(SecretTest, RevokeZeroesWhatHoldersSeeAndAnswersThatTheyHoldIt) {
  Client client = broker.connect();
  Mapping mapping = create(client);
  std::fill(mapping.writable().begin(), mapping.writable().end(), std::byte{0xA5});
  const Revoked revoked = client.revoke("root/secret");
  EXPECT_EQ(revoked.held, mapping.size());
  EXPECT_TRUE(std::all_of(mapping.bytes().begin(), mapping.bytes().end(),
                          [](std::byte one) { return one == std::byte{0}; }));
  // The name is free, and its next region is other memory.
  mapping.writable()[0] = std::byte{7};
  const Mapping next = create(client);
  EXPECT_EQ(next.bytes()[0], std::byte{0});
  client.revoke("root/secret");
}

TEST_F(SecretTest, ADrainNeedsALimitSinceNobodyCanTellWhenHoldersHaveFinished) {
  Client client = broker.connect();
  const Mapping mapping = create(client);
  RevokeOptions endless;
  endless.drain = true;
  try {
    client.revoke("root/secret", endless);
    ADD_FAILURE() << "a drain that could never end was begun";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::unsupported) << error.what();
  }
  RevokeOptions limited = endless;
  limited.within = std::chrono::milliseconds(50);
  client.revoke("root/secret", limited);
  EXPECT_EQ(client.list().front().state, RegionState::draining);
}

}  // namespace
}  // namespace mapcap::test
