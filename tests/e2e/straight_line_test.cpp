// From create to a mapping, and back: the real binaries, through the library.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <fstream>
#include <set>
#include <thread>

#include "tests/support/broker_process.h"
#include "tests/support/busy_machine.h"
#include "tests/support/patience.h"

namespace mapcap::test {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kSize = 1U << 20U;
constexpr uid_t kNobody = 65534;
constexpr uid_t kStranger = 64001;

RegionSpec spec(std::string name, std::uint64_t size = kSize) {
  RegionSpec wanted;
  wanted.name = std::move(name);
  wanted.size = size;
  wanted.lifetime = Lifetime::persistent();
  return wanted;
}

ErrorCode code_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.code();
  }
  ADD_FAILURE() << "nothing was refused";
  return ErrorCode::malformed;
}

class StraightLineTest : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root: it starts mapcapd";
    broker.start();
  }
  BrokerProcess broker;
};

TEST_F(StraightLineTest, AWritersStoreIsSeenByAReaderOfAnotherUser) {
  Client owner = broker.connect();
  RegionSpec wanted = spec("root/shared");
  wanted.mode = 0604;
  Grant writer = owner.create(wanted, Access::read_write);
  Mapping written(writer);
  std::memcpy(written.writable().data(), "hello", 5);

  const int status = as_user(kNobody, [&] {
    Client peer = broker.connect();
    const Mapping seen(peer.open("root/shared", Access::read_only));
    return std::memcmp(seen.bytes().data(), "hello", 5) == 0 ? 0 : 1;
  });
  EXPECT_EQ(status, 0);
}

TEST_F(StraightLineTest, TheModeDecidesForOthersAndWritingNeedsItsOwnBit) {  // Promise 2
  Client owner = broker.connect();
  RegionSpec wanted = spec("root/readable");
  wanted.mode = 0604;
  owner.create(wanted);
  owner.create(spec("root/private"));
  const int status = as_user(kNobody, [&] {
    Client peer = broker.connect();
    const bool no_write =
        code_of([&] { peer.open("root/readable", Access::read_write); }) == ErrorCode::denied;
    const bool unseen =
        code_of([&] { peer.open("root/private", Access::read_only); }) == ErrorCode::not_found;
    const bool no_revoke = code_of([&] { peer.revoke("root/readable"); }) == ErrorCode::denied;
    const std::vector<RegionInfo> listed = peer.list();
    return no_write && unseen && no_revoke && listed.size() == 1 && listed.front().name == "root/readable"
               ? 0
               : 1;
  });
  EXPECT_EQ(status, 0);
}

TEST_F(StraightLineTest, AFreshRegionReadsAsZerosAlsoUnderANameThatWasUsed) {  // Promise 6
  Client client = broker.connect();
  for (int round = 0; round < 3; ++round) {
    Grant grant = client.create(spec("root/again"), Access::read_write);
    Mapping mapping(grant);
    const auto bytes = mapping.writable();
    EXPECT_TRUE(std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; }));
    std::fill(bytes.begin(), bytes.end(), std::byte{0x5a});
    client.revoke("root/again");
  }
}

TEST_F(StraightLineTest, ARevokedRevocableMappingFaultsAndASealedOneReadsZeros) {  // Promises 4 and 5
  Client client = broker.connect();
  for (const SealKind seal : {SealKind::revocable, SealKind::sealed}) {
    RegionSpec wanted = spec("root/taken");
    wanted.seal = seal;
    Grant grant = client.create(wanted, Access::read_write);
    Mapping mapping(grant);
    std::memset(mapping.writable().data(), 0x77, mapping.size());
    client.revoke("root/taken");
    std::byte seen{0xff};
    const Touch touch = try_read(mapping, 0, std::span(&seen, 1));
    if (seal == SealKind::revocable) {
      EXPECT_EQ(touch, Touch::revoked);
    } else {
      EXPECT_EQ(touch, Touch::done);
      EXPECT_EQ(seen, std::byte{0});
    }
    EXPECT_EQ(code_of([&] { client.open("root/taken", Access::read_only); }), ErrorCode::busy);
  }
}

TEST_F(StraightLineTest, ARevokedRegionStaysChargedUntilItsLastMappingIsGone) {  // Promise 7
  Client client = broker.connect();
  auto used = [&] { return client.pools().front().used; };
  {
    std::optional<Mapping> mapping;
    {
      Grant grant = client.create(spec("root/zombie"), Access::read_write);
      mapping.emplace(grant);
    }
    const Revoked revoked = client.revoke("root/zombie");
    EXPECT_EQ(revoked.held, kSize);
    EXPECT_EQ(revoked.grants, 1U);
    std::this_thread::sleep_for(200ms);
    EXPECT_EQ(used(), kSize);
    EXPECT_EQ(client.show("root/zombie").region.state, RegionState::draining);
  }
  const FairStopwatch since_its_end;
  EXPECT_TRUE(comes_true([&] { return used() == 0; }));
  EXPECT_LE(since_its_end.took(), 100ms) << "the charge did not end within 100 ms";
}

TEST_F(StraightLineTest, AnAttributeOfTheGrantTellsWhatItIsWithoutTheBroker) {
  Client client = broker.connect();
  Grant grant = client.create(spec("root/told"), Access::read_only);
  broker.kill_broker();
  const std::optional<Description> told = describe(grant.fd());
  ASSERT_TRUE(told);
  EXPECT_EQ(told->name, "root/told");
  EXPECT_EQ(told->size, kSize);
  EXPECT_EQ(told->rights, Access::read_only);
  EXPECT_EQ(told->confinement, Confinement::clone);
  EXPECT_EQ(told->cache_effective, CacheMode::write_back);
  struct stat status {};
  ASSERT_EQ(::fstat(grant.fd(), &status), 0);
  EXPECT_EQ(static_cast<std::uint64_t>(status.st_size), kSize);
}

TEST_F(StraightLineTest, MemoryThatThePlatformWritesThroughIsToldAsThatAndNotAsVerified) {  // Promise 10
  broker.kill_both();
  broker.set_policy("[pool.wt]\nbacking=\"memory\"\ncapacity=\"8M\"\nwt_platform=true\n[[rule]]\nany=true\n");
  broker.start();
  Client client = broker.connect();
  RegionSpec wanted = spec("root/through");
  wanted.cache = {CacheMode::write_back, true};
  EXPECT_EQ(code_of([&] { client.create(wanted); }), ErrorCode::cache_mode);
  wanted.cache = {CacheMode::write_through, true};
  const Grant grant = client.create(wanted, Access::read_write);
  EXPECT_EQ(grant.info().cache, (CacheStatus{CacheMode::write_through, true, CacheMode::write_through,
                                             CacheMechanism::platform, false}));
  const std::optional<Description> told = describe(grant.fd());
  ASSERT_TRUE(told);
  EXPECT_EQ(told->cache_effective, CacheMode::write_through);
  EXPECT_EQ(told->cache_mechanism, CacheMechanism::platform);
  EXPECT_FALSE(client.pools().front().cache_verified);
}

TEST_F(StraightLineTest, RegionsGrantsAndChargesOutliveTheBroker) {  // Promise 9
  Client client = broker.connect();
  Grant grant = client.create(spec("root/survivor"), Access::read_write);
  Mapping mapping(grant);
  std::memcpy(mapping.writable().data(), "before", 6);
  broker.kill_broker();
  std::memcpy(mapping.writable().data() + 6, "+after", 6);
  broker.start();
  EXPECT_EQ(client.list().size(), 1U);
  EXPECT_EQ(client.pools().front().used, kSize);
  EXPECT_EQ(client.show("root/survivor").region.grants, 1U);
  const Mapping again(client.open("root/survivor", Access::read_only));
  EXPECT_EQ(std::memcmp(again.bytes().data(), "before+after", 12), 0);
}

TEST_F(StraightLineTest, WhatBothBrokerAndKeeperTookAlongIsReportedLostAndCostsNothing) {
  Client client = broker.connect();
  Grant grant = client.create(spec("root/gone"), Access::read_write);
  Mapping mapping(grant);
  std::memcpy(mapping.writable().data(), "mine", 4);
  broker.kill_both();
  EXPECT_EQ(std::memcmp(mapping.bytes().data(), "mine", 4), 0) << "a mapping broke";
  broker.start();
  const std::vector<RegionInfo> listed = client.list();
  ASSERT_EQ(listed.size(), 1U);
  EXPECT_EQ(listed.front().state, RegionState::lost);
  EXPECT_EQ(client.pools().front().used, 0U);
  EXPECT_EQ(code_of([&] { client.open("root/gone", Access::read_only); }), ErrorCode::lost);
  client.create(spec("root/gone"));
  EXPECT_TRUE(comes_true(
      [&] { return client.list().size() == 1 && client.list().front().state == RegionState::live; }));
}

TEST_F(StraightLineTest, AKeeperThatDiesIsReplacedAndOldMappingsGoOn) {
  Client client = broker.connect();
  Grant grant = client.create(spec("root/kept"), Access::read_write);
  Mapping mapping(grant);
  const pid_t before = broker.keeper_pid();
  ASSERT_GT(before, 0);
  broker.kill_keeper();
  ASSERT_TRUE(comes_true([&] { return broker.keeper_pid() != 0 && broker.keeper_pid() != before; }));
  std::memcpy(mapping.writable().data(), "still", 5);
  EXPECT_TRUE(comes_true([&] {
    try {
      const Mapping again(client.open("root/kept", Access::read_only));
      return std::memcmp(again.bytes().data(), "still", 5) == 0;
    } catch (const Error&) {
      return false;
    }
  }));
  broker.kill_broker();
  broker.start();
  const Mapping carried(client.open("root/kept", Access::read_only));
  EXPECT_EQ(std::memcmp(carried.bytes().data(), "still", 5), 0) << "the new keeper did not hold the memory";
}

TEST_F(StraightLineTest, AConnectionRegionOfAClientThatDiesEndsAfterItsGracePeriodAndNotBefore) {
  RegionSpec wanted = spec("root/brief");
  wanted.lifetime = Lifetime::connection();
  Client watcher = broker.connect();
  // Until somebody could ask before it was over.
  for (bool judged = false; !judged && !HasFailure();) {
    const auto before = std::chrono::steady_clock::now();
    const FairStopwatch stopwatch;
    const pid_t child = ::fork();
    if (child == 0) {
      Client client = broker.connect();
      client.create(wanted);
      ::_exit(0);  // Without a goodbye.
    }
    ::waitpid(child, nullptr, 0);
    const std::size_t left = watcher.list().size();
    judged = std::chrono::steady_clock::now() - before < 1s;
    if (judged) {
      EXPECT_EQ(left, 1U) << "the grace period of 1 s was not given";
    }
    EXPECT_TRUE(comes_true([&] { return watcher.list().empty(); }));
    EXPECT_LE(stopwatch.took(), 3s);
  }
}

TEST_F(StraightLineTest, WhoLeavesOfHisOwnAccordLeavesNoConnectionRegionBehind) {
  for (int round = 0; round < 20; ++round) {
    Client client = broker.connect();
    for (const char* name : {"root/first", "root/second"}) {
      RegionSpec wanted = spec(name);
      wanted.lifetime = Lifetime::connection();
      client.create(wanted);  // Of the round before nothing is in the way.
    }
    client.create(spec("root/kept-" + std::to_string(round)));
  }
  const std::vector<RegionInfo> left = broker.connect().list();
  EXPECT_EQ(left.size(), 20U);
  for (const RegionInfo& region : left) EXPECT_TRUE(region.name.starts_with("root/kept-")) << region.name;
}

TEST_F(StraightLineTest, AChildThatEndsDoesNotSayGoodbyeForItsParent) {
  Client client = broker.connect();
  RegionSpec wanted = spec("root/mine");
  wanted.lifetime = Lifetime::connection();
  client.create(wanted);
  const pid_t child = ::fork();
  if (child == 0) {
    { const Client ended = std::move(client); }
    ::_exit(0);
  }
  ::waitpid(child, nullptr, 0);
  EXPECT_EQ(client.list().size(), 1U);
}

TEST_F(StraightLineTest, AClientThatReconnectsKeepsItsConnectionRegions) {
  std::string policy = open_policy();
  const std::string grace = "grace = \"1s\"";
  policy.replace(policy.find(grace), grace.size(), "grace = \"5s\"");  // A busy machine reconnects in that.
  broker.set_policy(policy);
  broker.kill_broker();
  broker.start();
  Client client = broker.connect();
  RegionSpec wanted = spec("root/mine");
  wanted.lifetime = Lifetime::connection();
  client.create(wanted);
  {
    Client leaves = broker.connect();
    wanted.name = "root/nobodys";
    leaves.create(wanted);
    broker.kill_broker();
  }
  broker.start();
  EXPECT_EQ(client.list("root/mine").size(), 1U);
  EXPECT_TRUE(comes_true([&] { return client.list("root/nobodys").empty(); })) << "the grace period is over";
  EXPECT_EQ(client.list().size(), 1U);
}

TEST_F(StraightLineTest, ATtlEndsWithinASecondUnlessRenewed) {
  Client client = broker.connect();
  RegionSpec wanted = spec("root/short");
  constexpr auto kTtl = 5s;  // A busy machine asks for a list, and renews, in that.
  wanted.lifetime = Lifetime::for_time(kTtl);
  client.create(wanted);
  const FairStopwatch stopwatch;
  wanted.name = "root/renewed";
  client.create(wanted);
  client.renew("root/renewed", 1h);
  EXPECT_EQ(client.list().size(), 2U);
  EXPECT_TRUE(comes_true([&] { return client.list().size() == 1; }));
  EXPECT_LE(stopwatch.took(), kTtl + 1s);
  EXPECT_EQ(client.list().front().name, "root/renewed");
}

TEST_F(StraightLineTest, OfTwoCreatesOfOneNameOneWinsAndTheOtherIsToldSo) {
  Client client = broker.connect();
  client.create(spec("root/once"));
  EXPECT_EQ(code_of([&] { client.create(spec("root/once")); }), ErrorCode::exists);
}

TEST_F(StraightLineTest, ACloneOfACallersFileIsMmapOnlyWithAtMostItsRights) {
  const std::string path = broker.directory() + "/file";
  std::ofstream(path) << "the file's own bytes";
  ::chmod(path.c_str(), 0644);
  const int status = as_user(kNobody, [&] {
    Client client = broker.connect();
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    const bool no_more_rights = code_of([&] { client.clone(fd, Access::read_write); }) == ErrorCode::denied;
    const Grant grant = client.clone(fd, Access::read_only);
    const Mapping mapping(grant);
    char byte = 0;
    const bool confined = ::pread(grant.fd(), &byte, 1, 0) < 0 && ::ftruncate(grant.fd(), 0) < 0;
    return no_more_rights && confined && std::memcmp(mapping.bytes().data(), "the file's", 10) == 0 ? 0 : 1;
  });
  EXPECT_EQ(status, 0);
}

TEST_F(StraightLineTest, AnAdministratorsQuotaOverrideHoldsAcrossARestart) {
  Client admin = broker.connect();
  Limits limits;
  limits.bytes = kSize;
  admin.quota_set({SubjectKind::user, kStranger, ""}, limits);
  broker.kill_broker();
  broker.start();
  const int status = as_user(kStranger, [&] {
    Client client = broker.connect();
    client.create(spec("stranger/a"));
    return code_of([&] { client.create(spec("stranger/b", 4096)); }) == ErrorCode::over_quota ? 0 : 1;
  });
  EXPECT_EQ(status, 0);
  admin.quota_clear({SubjectKind::user, kStranger, ""});
  EXPECT_EQ(as_user(kStranger,
                    [&] {
                      broker.connect().create(spec("stranger/b", 4096));
                      return 0;
                    }),
            0);
}

TEST_F(StraightLineTest, AListOfManyRegionsComesWholeAndInOrder) {
  Client client = broker.connect();
  constexpr int kCount = 500;  // More than two pages.
  for (int i = 0; i < kCount; ++i) client.create(spec("root/many-" + std::to_string(i), 4096));
  const std::vector<RegionInfo> listed = client.list("root/many-*");
  EXPECT_EQ(listed.size(), static_cast<std::size_t>(kCount));
  EXPECT_TRUE(std::is_sorted(listed.begin(), listed.end(),
                             [](const RegionInfo& a, const RegionInfo& b) { return a.name < b.name; }));
}

TEST_F(StraightLineTest, APolicyIsReloadedAsAWholeOrNotAtAll) {
  Client client = broker.connect();
  broker.set_policy(open_policy(
      "[[rule]]\neffect = \"deny\"\nany = true\nnames = [\"secret/**\"]\nverbs = [\"create\"]\n"));
  broker.signal(SIGHUP);
  EXPECT_TRUE(comes_true([&] { return broker.log().find("policy reloaded") != std::string::npos; }));
  EXPECT_EQ(code_of([&] { client.create(spec("secret/x")); }), ErrorCode::denied);
  broker.set_policy("[pool.dram]\nnonsense = 1\n");
  broker.signal(SIGHUP);
  EXPECT_TRUE(comes_true([&] { return broker.log().find("policy not reloaded") != std::string::npos; }));
  EXPECT_EQ(code_of([&] { client.create(spec("secret/x")); }), ErrorCode::denied);
  client.create(spec("root/fine"));
}

}  // namespace
}  // namespace mapcap::test
