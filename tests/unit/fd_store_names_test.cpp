// What the service manager's fd store takes, and what becomes of the rest.
#include <gtest/gtest.h>

#include <cstdlib>
#include <set>

#include "broker/regions/fd_store.h"

namespace mapcap::broker {
namespace {

class Counting final : public LogReport {
 public:
  void store_full(std::uint64_t stored, std::optional<std::uint64_t> most) override {
    ++times;
    last_stored = stored;
    last_most = most;
  }
  int times = 0;
  std::uint64_t last_stored = 0;
  std::optional<std::uint64_t> last_most;
};

TEST(FdStoreNames, TellTheRegionAndAreWhatSystemdTakes) {
  std::set<std::string> seen;
  for (const std::uint64_t id : {std::uint64_t{1}, std::uint64_t{84}, std::uint64_t{85}, std::uint64_t{86},
                                 std::uint64_t{614'124}, std::uint64_t{614'125}, ~std::uint64_t{0}}) {
    const std::string name = FdStore::name_of(RegionId{id});
    EXPECT_TRUE(seen.insert(name).second);
    EXPECT_EQ(FdStore::region_of(name), RegionId{id}) << name;
    for (const char character : name) EXPECT_TRUE(character > ' ' && character < 127 && character != ':');
  }
  EXPECT_EQ(FdStore::name_of(RegionId{614'124}).size(), 4U);
  EXPECT_EQ(FdStore::region_of("mapcap-123"), RegionId{123}) << "of an earlier version";
}

TEST(FdStoreNames, OfSomebodyElseAreNoRegions) {
  for (const char* name : {"", "r", "r0", "r01", "stored", "mapcap-", "mapcap-0", "mapcap-1x", "x1",
                           "r~~~~~~~~~~", "rzzzzzzzzzzz", "r a", "mapcap-99999999999999999999"}) {
    EXPECT_FALSE(FdStore::region_of(name)) << name;
  }
}

TEST(FdStorePlaces, TheRegionThatTheStoreHasNoPlaceForIsToldOfOnce) {
  Counting report;
  FdStore store(2, report);
  EXPECT_TRUE(store.take(RegionId{1}));
  EXPECT_FALSE(store.take(RegionId{1})) << "it has its place";
  EXPECT_TRUE(store.take(RegionId{2}));
  EXPECT_EQ(report.times, 0);
  EXPECT_FALSE(store.take(RegionId{3}));
  EXPECT_FALSE(store.take(RegionId{4}));
  EXPECT_EQ(report.times, 1);
  EXPECT_EQ(report.last_stored, 2U);
  EXPECT_EQ(store.without_place(), 2U);
  EXPECT_FALSE(store.drop(RegionId{3})) << "nothing to take out of the store";
  EXPECT_EQ(store.without_place(), 1U);
  EXPECT_EQ(store.drop(RegionId{1}), FdStore::name_of(RegionId{1}));
  EXPECT_EQ(store.take(RegionId{4}), FdStore::name_of(RegionId{4}));
  EXPECT_EQ(store.without_place(), 0U);
  EXPECT_FALSE(store.take(RegionId{5}));
  EXPECT_EQ(report.times, 2) << "there was room in between";
}

TEST(FdStorePlaces, SocketsOfEndpointsTakePlacesAndAreNoRegions) {
  Counting report;
  FdStore store(2, report);
  for (const std::uint64_t endpoint : {7, 8}) store.note_socket(RegionId{endpoint});
  EXPECT_TRUE(store.take(RegionId{1}));
  EXPECT_TRUE(store.take(RegionId{7}));
  EXPECT_FALSE(store.take(RegionId{2}));
  EXPECT_FALSE(store.take(RegionId{8}));
  EXPECT_EQ(store.stored(), 1U);
  EXPECT_EQ(store.sockets(), 1U);
  EXPECT_EQ(store.without_place(), 1U) << "no memory is in a socket";
  EXPECT_TRUE(store.drop(RegionId{7}));
  EXPECT_EQ(store.sockets(), 0U);
  EXPECT_TRUE(store.take(RegionId{7})) << "numbers are used once; this one is a region's";
  EXPECT_EQ(store.stored(), 2U);
}

// The kernel refuses to execute a program with a longer variable: the service could never start again.
TEST(FdStorePlaces, TheNamesOfAllFitTheOneVariableThatTheyComeIn) {
  Counting report;
  FdStore store(std::nullopt, report);
  std::string variable = "LISTEN_FDNAMES=";
  std::uint64_t id = 1;
  for (; const auto name = store.take(RegionId{id}); ++id) variable += *name + ":";
  EXPECT_EQ(report.times, 1);
  EXPECT_GT(id, 25'000U);
  variable.pop_back();
  EXPECT_LE(variable.size() + 1, 32U * 4096);
  EXPECT_GT(variable.size(), 32U * 4096 - 8) << "no place is wasted";
}

TEST(FdStorePlaces, WhatTheManagerHandedOverHasItsPlaceUnderItsName) {
  Counting report;
  FdStore store(1, report);
  store.found(RegionId{7}, "mapcap-7");
  EXPECT_FALSE(store.take(RegionId{7}));
  EXPECT_FALSE(store.take(RegionId{8}));
  EXPECT_EQ(store.drop(RegionId{7}), "mapcap-7");
  EXPECT_TRUE(store.take(RegionId{8}));
}

}  // namespace
}  // namespace mapcap::broker
