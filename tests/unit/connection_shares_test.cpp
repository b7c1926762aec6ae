// Who must give up a connection when the broker is full.
#include "broker/door/connection_shares.h"

#include <gtest/gtest.h>

#include "policy/subject.h"

namespace mapcap::broker {
namespace {

constexpr std::uint32_t kAlice = 1000;
constexpr std::uint32_t kBob = 1001;
constexpr std::uint32_t kCarol = 1002;

ConnectionShares shares_of(std::size_t alice, std::size_t bob, std::size_t administrators = 0) {
  ConnectionShares shares;
  for (std::size_t i = 0; i < alice; ++i) shares.add(kAlice);
  for (std::size_t i = 0; i < bob; ++i) shares.add(kBob);
  for (std::size_t i = 0; i < administrators; ++i) shares.add(policy::kAdministrators);
  return shares;
}

TEST(ConnectionSharesTest, WhoHasMostYieldsToWhoHasNone) {
  EXPECT_EQ(shares_of(5, 4).yields_to(kCarol), kAlice);
  EXPECT_EQ(shares_of(4, 5).yields_to(kCarol), kBob);
}

TEST(ConnectionSharesTest, NobodyYieldsToWhoWouldThenHaveMoreThanHeKeeps) {
  EXPECT_EQ(shares_of(2, 0).yields_to(kBob), kAlice);
  EXPECT_EQ(shares_of(1, 0).yields_to(kBob), std::nullopt);
  EXPECT_EQ(shares_of(5, 3).yields_to(kBob), kAlice);
  EXPECT_EQ(shares_of(5, 4).yields_to(kBob), std::nullopt);
  EXPECT_EQ(shares_of(5, 4).yields_to(kAlice), std::nullopt);
}

TEST(ConnectionSharesTest, TheTableBalancesWhateverManyWant) {
  ConnectionShares shares = shares_of(64, 0);
  int moved = 0;
  while (const auto yielding = shares.yields_to(kBob)) {
    shares.remove(*yielding);
    shares.add(kBob);
    ASSERT_LE(++moved, 64);
  }
  EXPECT_EQ(shares.of(kAlice), 32U);
  EXPECT_EQ(shares.of(kBob), 32U);
}

TEST(ConnectionSharesTest, RootNeverYields) {
  EXPECT_EQ(shares_of(2, 2, 50).yields_to(kCarol), kBob);
  EXPECT_EQ(shares_of(0, 0, 50).yields_to(kCarol), std::nullopt);
}

TEST(ConnectionSharesTest, WhoLeftIsForgotten) {
  ConnectionShares shares = shares_of(2, 0);
  shares.remove(kAlice);
  shares.remove(kAlice);
  EXPECT_EQ(shares.of(kAlice), 0U);
  EXPECT_EQ(shares.yields_to(kBob), std::nullopt);
}

}  // namespace
}  // namespace mapcap::broker
