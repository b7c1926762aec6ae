// The end of the broker as a verb: memory stays, or all of it ends, and nothing between.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <deque>
#include <filesystem>
#include <set>
#include <string>
#include <thread>

#include "tests/support/broker_process.h"
#include "tests/support/tiny_filesystem.h"

namespace mapcap::test {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

constexpr std::uint64_t kPage = 4096;
constexpr uid_t kAlice = 61001;
constexpr uid_t kBob = 61002;

#ifdef MAPCAP_SANITIZED
constexpr int kMany = 300;
#else
constexpr int kMany = 3000;
#endif

RegionSpec spec(const std::string& name, const std::string& pool = "dram") {
  RegionSpec wanted;
  wanted.name = name;
  wanted.size = kPage;
  wanted.pool = pool;
  wanted.lifetime = Lifetime::persistent();
  return wanted;
}

/// As that user, who holds nothing afterwards.
void create_as(const BrokerProcess& broker, uid_t uid, const std::string& name) {
  EXPECT_EQ(as_user(uid,
                    [&] {
                      Mapping mapping(broker.connect().create(spec(name), Access::read_write));
                      std::memcpy(mapping.writable().data(), "kept", 4);
                      return 0;
                    }),
            0);
}

/// Neither broker nor keeper, nor an examiner.
std::size_t processes_of(const BrokerProcess& broker) {
  std::size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    std::error_code gone;
    const std::filesystem::path program = std::filesystem::read_symlink(entry.path() / "exe", gone);
    if (gone || !program.filename().string().starts_with("mapcapd")) continue;
    std::FILE* file = std::fopen((entry.path() / "cmdline").c_str(), "r");
    std::array<char, 4096> line{};
    if (file != nullptr) (void)std::fread(line.data(), 1, line.size() - 1, file);
    if (file != nullptr) std::fclose(file);
    const std::string_view words(line.data(), line.size());
    count += words.find(broker.state()) != std::string_view::npos ? 1 : 0;
  }
  return count;
}

bool no_process_is_left(const BrokerProcess& broker) {
  for (auto waited = 0ms; waited < 20s; waited += 10ms) {
    if (processes_of(broker) == 0) return true;
    std::this_thread::sleep_for(10ms);
  }
  return false;
}

class ShutdownTest : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root: it starts mapcapd";
  }
};

// Promise 9
TEST_F(ShutdownTest, LeavesMemoryWithTheKeeperAndSaysSo) {
  BrokerProcess broker;
  broker.start();
  create_as(broker, kAlice, "a/1");
  create_as(broker, kAlice, "a/2");
  create_as(broker, kBob, "b/1");
  const CommandResult ended = mapcap(broker, {"shutdown"});
  EXPECT_EQ(ended.status, 0) << ended.err;
  EXPECT_EQ(ended.out,
            "mapcapd has ended; 3 regions of 2 users (12K) stay with its keeper, for the next one\n");
  EXPECT_TRUE(broker.await_end());
  EXPECT_NE(broker.keeper_pid(), 0);
  broker.start();
  Client client = broker.connect();
  EXPECT_EQ(std::memcmp(Mapping(client.open("b/1", Access::read_only)).bytes().data(), "kept", 4), 0);
  EXPECT_EQ(client.list().size(), 3U);
}

TEST_F(ShutdownTest, EndsRegionsAndKeeperWhereThatIsAskedFor) {
  BrokerProcess broker;
  broker.start();
  create_as(broker, kAlice, "a/1");
  create_as(broker, kBob, "b/1");
  const CommandResult ended = mapcap(broker, {"shutdown", "--end-regions", "--yes"});
  EXPECT_EQ(ended.status, 0) << ended.err;
  EXPECT_EQ(ended.out, "mapcapd has ended, and 2 regions of 2 users (8K) with it\n");
  EXPECT_TRUE(broker.await_end());
  EXPECT_TRUE(no_process_is_left(broker));
  const CommandResult ledger = run_command({MAPCAPD_PATH, "--check-ledger", "--state", broker.state(),
                                            "--policy", broker.directory() + "/policy.toml"});
  EXPECT_THAT(ledger.out, HasSubstr("0 regions")) << ledger.err;
  broker.start();
  EXPECT_TRUE(broker.connect().list().empty());
  EXPECT_EQ(broker.log().find("are lost"), std::string::npos) << broker.log();
}

// Promise 5: whoever holds a grant, mapped or not, under every kind of seal.
TEST_F(ShutdownTest, WhatEndsIsReadByNobodyAnyMoreAndHoldersKeepNobodyWaiting) {
  for (const char* keys : {"seals = [\"revocable\", \"sealed\"]\n", "seals = [\"sealed\"]\n",
                           "secret = true\n", "confinement = \"sealed\"\n"}) {
    BrokerProcess broker(open_policy("", keys));
    if (!broker.start_if_it_lives()) continue;
    Client client = broker.connect();
    std::deque<Mapping> held;
    for (int i = 0; i < 20; ++i) {
      held.emplace_back(client.create(spec("root/" + std::to_string(i)), Access::read_write));
      std::memset(held.back().writable().data(), 0xAA, kPage);
    }
    const Grant unmapped = client.open("root/0", Access::read_write);
    const ShutdownResult ended = client.shutdown({.end_regions = true, .only_tell = false});
    EXPECT_EQ(ended.regions, 20U);
    for (const Mapping& mapping : held) {
      bool leaked = false;
      const auto bytes = mapping.bytes();
      (void)guarded(bytes, [&]() noexcept {
        for (const std::byte& one : bytes) leaked = leaked || one == std::byte{0xAA};
      });
      EXPECT_FALSE(leaked) << keys;
    }
    EXPECT_TRUE(broker.await_end()) << keys;
    EXPECT_TRUE(no_process_is_left(broker)) << keys;
    broker.start();
    EXPECT_TRUE(broker.connect().list().empty()) << keys << broker.log();
  }
}

TEST_F(ShutdownTest, AsksOnceOnATerminalAndOtherwiseWantsYes) {
  BrokerProcess broker;
  broker.start();
  create_as(broker, kAlice, "a/1");
  const CommandResult refused = mapcap(broker, {"shutdown", "--end-regions"});
  EXPECT_EQ(refused.status, 1);
  EXPECT_THAT(refused.err, HasSubstr("End 1 region of 1 user (4K), for everybody and for ever?"));
  EXPECT_THAT(refused.err, HasSubstr("say --yes"));
  EXPECT_EQ(broker.connect().list().size(), 1U) << "nothing was done";
  const CommandResult wrong = mapcap(broker, {"shutdown", "--yes"});
  EXPECT_EQ(wrong.status, 2);
  // script(1) makes a terminal of its own.
  if (run_command({"script", "--version"}).status == 0) {
    const auto on_terminal = [&](const std::string& answer) {
      return run_command({"sh", "-c",
                          "echo " + answer + " | script -qec '" + std::string(MAPCAP_PATH) +
                              " shutdown --end-regions' /dev/null"},
                         {"MAPCAP_SOCKET=" + broker.socket()});
    };
    const CommandResult no = on_terminal("n");
    EXPECT_EQ(no.status, 1) << no.out;
    EXPECT_THAT(no.out, HasSubstr("nothing was done"));
    EXPECT_EQ(broker.connect().list().size(), 1U);
    const CommandResult yes = on_terminal("y");
    EXPECT_EQ(yes.status, 0) << yes.out;
    const std::size_t asked = yes.out.find("for everybody and for ever?");
    ASSERT_NE(asked, std::string::npos) << yes.out;
    EXPECT_EQ(yes.out.find("for ever?", asked + 20), std::string::npos) << "asked twice: " << yes.out;
    EXPECT_TRUE(broker.await_end());
    broker.start();
    create_as(broker, kAlice, "a/1");
  }
  const CommandResult ended = mapcap(broker, {"shutdown", "--end-regions", "--yes", "--json"});
  EXPECT_EQ(ended.status, 0) << ended.err;
  EXPECT_EQ(ended.out,
            "{\"ended\":true,\"regions\":1,\"users\":1,\"bytes\":4096,\"lasting\":0,\"quarantined\":0}\n");
  EXPECT_TRUE(broker.await_end());
  broker.start();
  const CommandResult nothing_to_ask = mapcap(broker, {"shutdown", "--end-regions"});
  EXPECT_EQ(nothing_to_ask.status, 0) << "where nothing ends nobody is asked: " << nothing_to_ask.err;
}

TEST_F(ShutdownTest, IsForAdministratorsAndWhomThePolicyNames) {
  BrokerProcess broker(open_policy("[[rule]]\nany = true\n[[rule]]\nuser = " + std::to_string(kBob) +
                                   "\nverbs = [\"shutdown\"]\n"));
  broker.start();
  create_as(broker, kAlice, "a/1");
  for (const std::vector<std::string>& how : {std::vector<std::string>{"shutdown"},
                                              {"shutdown", "--end-regions", "--yes"},
                                              {"shutdown", "--end-regions"}}) {
    const CommandResult refused = mapcap(broker, how, kAlice);
    EXPECT_EQ(refused.status, 1);
    EXPECT_THAT(refused.err, HasSubstr("shutdown"));
    EXPECT_THAT(refused.err, testing::Not(HasSubstr("of 1 user"))) << "nor is he told what would end";
  }
  EXPECT_EQ(broker.connect().list().size(), 1U);
  EXPECT_EQ(mapcap(broker, {"shutdown", "--end-regions", "--yes"}, kBob).status, 0);
  EXPECT_TRUE(broker.await_end());
}

TEST_F(ShutdownTest, OfThousandsOfRegionsHoldsNobodyUpAndMissesNone) {
  BrokerProcess broker;
  broker.start();
  Client client = broker.connect();
  for (int i = 0; i < kMany; ++i) client.create(spec("many/" + std::to_string(i)));
  // Somebody else, who asks until nobody answers any more; how often that went well, 100 at most.
  int answered = 0;
  std::array<int, 2> begun{};
  ASSERT_EQ(::pipe(begun.data()), 0);
  std::thread asking([&] {
    answered = as_user(kAlice, [&] {
      ConnectOptions once;
      once.reconnect_within = 0ms;
      Client other = broker.connect(once);
      if (::write(begun[1], "b", 1) != 1) return 0;
      int count = 0;
      try {
        for (;; count = std::min(count + 1, 100)) {
          const BrokerStatus status = other.status();
          if (!status.regions.empty() && status.regions.front().count == static_cast<std::uint64_t>(kMany))
            count = 0;  // It has not begun.
        }
      } catch (const Error&) {
      }
      return count;
    });
  });
  char byte = 0;
  EXPECT_EQ(::read(begun[0], &byte, 1), 1);
  EXPECT_EQ(client.shutdown({.end_regions = true, .only_tell = false}).regions,
            static_cast<std::uint64_t>(kMany));
  asking.join();
  for (const int end : begun) ::close(end);
  EXPECT_LE(answered, 100) << "he was not served at all";
  EXPECT_GT(answered, 10) << "in one piece of the loop it would be one or two";
  EXPECT_TRUE(broker.await_end());
  EXPECT_TRUE(no_process_is_left(broker));
  broker.start();
  EXPECT_TRUE(broker.connect().list().empty());
}

TEST_F(ShutdownTest, LeavesWhatIsNotVolatile) {
  std::string pattern = "/var/tmp/mapcap-shutdown.XXXXXX";
  ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
  {
    BrokerProcess broker(
        open_policy("[pool.files]\nbacking = \"dax-file\"\ncapacity = \"8M\"\npath = \"" + pattern + "\"\n"));
    broker.start();
    {
      Client client = broker.connect();
      Mapping lasting(client.create(spec("root/lasting", "files"), Access::read_write));
      std::memcpy(lasting.writable().data(), "kept", 4);
      client.create(spec("root/volatile"));
    }
    const CommandResult ended = mapcap(broker, {"shutdown", "--end-regions", "--yes"});
    EXPECT_EQ(
        ended.out,
        "mapcapd has ended, and 1 region of 1 user (4K) with it; 1 region of non-volatile memory stays\n")
        << ended.err;
    EXPECT_TRUE(broker.await_end());
    EXPECT_TRUE(no_process_is_left(broker));
    broker.start();
    Client client = broker.connect();
    ASSERT_EQ(client.list().size(), 1U);
    EXPECT_EQ(std::memcmp(Mapping(client.open("root/lasting", Access::read_only)).bytes().data(), "kept", 4),
              0);
    client.revoke("root/lasting");
  }
  std::filesystem::remove_all(pattern);
}

// An administrator stops the service to unmount; that the keeper guards memory of others is no reason against it.
TEST_F(ShutdownTest, AfterAnOrderlyEndNothingOfAFilesystemIsHeld) {
  for (const bool by_verb : {false, true}) {
    TinyFilesystem tiny("8M");
    if (!tiny.mounted()) GTEST_SKIP() << "no tmpfs can be mounted here";
    const std::string directory = tiny.path() + "/pool";
    ASSERT_EQ(::mkdir(directory.c_str(), 0700), 0);
    BrokerProcess broker(open_policy("[pool.files]\nbacking = \"dax-file\"\ncapacity = \"4M\"\npath = \"" +
                                     directory + "\"\n"));
    broker.start();
    {
      Client client = broker.connect();
      (void)client.create(spec("root/file", "files"), Access::read_write);
      (void)client.create(spec("root/memory"), Access::read_write);
    }
    if (by_verb) {
      EXPECT_EQ(mapcap(broker, {"shutdown"}).status, 0);
      EXPECT_TRUE(broker.await_end());
    } else {
      EXPECT_EQ(broker.terminate(), 0);
    }
    EXPECT_NE(broker.keeper_pid(), 0) << "it guards the memory";
    bool unmounted = false;
    for (auto waited = 0ms; waited < 5s && !unmounted; waited += 10ms) {
      unmounted = tiny.unmount();
      if (!unmounted) std::this_thread::sleep_for(10ms);
    }
    EXPECT_TRUE(unmounted) << "something is still open";
  }
}

// A broker that is killed on the way has ended some regions and not touched the others; asked again, it ends them.
TEST_F(ShutdownTest, KilledAtAnyStepItLeavesEachRegionWholeOrGone) {
  for (const char* step : {"revoking", "cut", "draining", "scrubbing", "dropped", "freed", "erased"}) {
    for (const char* which : {":1", ":3"}) {
      SCOPED_TRACE(std::string(step) + which);
      BrokerProcess broker;
      broker.set_program(MAPCAPD_FAULTS_PATH);
      broker.set_environment({"MAPCAP_DIE_AT=" + std::string(step) + which});
      broker.start();
      std::deque<Mapping> held;
      {
        ConnectOptions once;
        once.reconnect_within = 0ms;
        Client client = broker.connect(once);
        for (int i = 0; i < 5; ++i) {
          held.emplace_back(client.create(spec("root/" + std::to_string(i)), Access::read_write));
          std::memset(held.back().writable().data(), 0xAA, kPage);
        }
        EXPECT_THROW(client.shutdown({.end_regions = true, .only_tell = false}), Error);
      }
      ASSERT_TRUE(broker.await_end()) << "it never came to its step";
      broker.set_environment({});
      broker.start();
      Client client = broker.connect();
      for (const RegionInfo& region : client.list()) {
        if (region.state != RegionState::live) continue;
        const Mapping whole(client.open(region.name, Access::read_only));
        EXPECT_EQ(whole.bytes()[kPage - 1], std::byte{0xAA}) << region.name << " is there, but not as it was";
      }
      (void)client.shutdown({.end_regions = true, .only_tell = false});
      EXPECT_TRUE(broker.await_end());
      EXPECT_TRUE(no_process_is_left(broker));
      broker.start();
      EXPECT_TRUE(broker.connect().list().empty());
    }
  }
}

TEST_F(ShutdownTest, StatusTellsOfTheBroker) {
  BrokerProcess broker(
      open_policy("[[rule]]\nuser = " + std::to_string(kBob) + "\neffect = \"deny\"\nverbs = [\"pools\"]\n"));
  broker.start();
  create_as(broker, kAlice, "a/1");
  const BrokerStatus status = broker.connect().status();
  EXPECT_EQ(status.pid, static_cast<std::uint32_t>(broker.pid()));
  EXPECT_EQ(status.policy, broker.directory() + "/policy.toml");
  EXPECT_GE(status.policy_loaded_unix.count(), 1'000'000'000);
  ASSERT_EQ(status.regions.size(), 1U);
  EXPECT_EQ(status.regions.front().state, RegionState::live);
  EXPECT_EQ(status.regions.front().count, 1U);
  EXPECT_EQ(status.unguarded, 0U);
  EXPECT_EQ(status.keeper.pid, static_cast<std::uint32_t>(broker.keeper_pid()));
  EXPECT_EQ(status.keeper.held, 1U);
  EXPECT_FALSE(status.store);
  EXPECT_GE(status.connections, 1U);
  EXPECT_EQ(status.max_connections, 4096U);
  ASSERT_EQ(status.pools.size(), 1U);
  EXPECT_EQ(status.pools.front().pool, "dram");
  const CommandResult told = mapcap(broker, {"status"}, kAlice);
  EXPECT_EQ(told.status, 0) << told.err;
  EXPECT_THAT(told.out, HasSubstr("regions       1 live\n"));
  EXPECT_THAT(told.out, HasSubstr("unguarded     none"));
  EXPECT_THAT(told.out, HasSubstr("holds 1 region"));
  const CommandResult json = mapcap(broker, {"status", "--json"});
  EXPECT_THAT(json.out, HasSubstr("\"regions\":{\"live\":1},\"unguarded\":0,\"unguarded_regions\":[]"));
  EXPECT_EQ(mapcap(broker, {"status"}, kBob).status, 1) << "as of the pools";
}

}  // namespace
}  // namespace mapcap::test
