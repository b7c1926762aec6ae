// Promise 17: what reads clients' bytes has none of the machine's power, and what has it can be killed.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/broker_process.h"
#include "tests/support/mints.h"
#include "tests/support/patience.h"
#include "tests/support/programs.h"

namespace mapcap::test {
namespace {

using testing::HasSubstr;
using testing::Not;

std::string from_environment(const char* name) {
  const char* found = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): nobody sets it.
  return found == nullptr ? "" : found;
}

/// In a guest, which has less memory, there are more pools ($MAPCAP_TEST_POOLS, sections of a policy), by which the mint
/// has more to do, and regions are made in one of them ($MAPCAP_TEST_POOL).
std::string policy(const std::string& extra = "") {
  std::string text = open_policy(from_environment("MAPCAP_TEST_POOLS") + extra);
  const std::string memory = from_environment("MAPCAP_TEST_MEMORY");
  const std::string usual = "capacity = \"2G\"";
  if (!memory.empty()) text.replace(text.find(usual), usual.size(), "capacity = \"" + memory + "\"");
  return text;
}

RegionSpec spec(const std::string& name) {
  RegionSpec wanted;
  wanted.pool = from_environment("MAPCAP_TEST_POOL");
  wanted.name = name;
  wanted.size = 4096;
  wanted.lifetime = Lifetime::persistent();
  wanted.seal = SealKind::revocable;
  return wanted;
}

class MintTest : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root: it starts mapcapd";
    broker.start();
    ASSERT_FALSE(mints_of(broker.state()).empty());
  }

  /// A grant that is made, mapped and written.
  void expect_grants(Client& client, const std::string& name) {
    Mapping mapping(client.create(spec(name), Access::read_write));
    mapping.writable()[0] = std::byte{42};
    EXPECT_EQ(Mapping(client.open(name, Access::read_only)).bytes()[0], std::byte{42});
  }

  /// Its parent is the broker: either was made by it, or its mint has ended.
  [[nodiscard]] pid_t serving() const {
    for (const MintProcess& mint : mints_of(broker.state())) {
      if (mint.parent == broker.pid()) return mint.pid;
    }
    return 0;
  }
  [[nodiscard]] pid_t heir() const {
    const pid_t mint = serving();
    // Other children of it answer on a lane: the heir has been told nothing yet, and so has opened nothing.
    pid_t found = 0;
    for (const MintProcess& one : mints_of(broker.state())) {
      if (one.parent == mint && status_word(one.pid, "NSsid") == status_word(one.pid, "NSpid"))
        found = one.pid;
    }
    return found;
  }

  BrokerProcess broker{policy()};
};

TEST_F(MintTest, WhatAcceptsConnectionsHasNoPower) {
  constexpr std::uint64_t kMayKeep =
      1ULL << CAP_LINUX_IMMUTABLE | 1ULL << CAP_SYS_RESOURCE | 1ULL << CAP_IPC_LOCK;
  for (const auto& task :
       std::filesystem::directory_iterator("/proc/" + std::to_string(broker.pid()) + "/task")) {
    const pid_t thread = std::stoi(task.path().filename());
#ifdef MAPCAP_SANITIZED
    if (thread != broker.pid()) continue;  // The sanitizer has threads of its own, older than the broker.
#endif
    for (const char* which : {"CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb"})
      EXPECT_EQ(std::stoull(status_word(thread, which), nullptr, 16) & ~kMayKeep, 0U) << which;
    EXPECT_EQ(status_word(thread, "Seccomp"), "2");
    EXPECT_EQ(status_word(thread, "NoNewPrivs"), "1");
  }
  const std::uint64_t mints = std::stoull(status_word(serving(), "CapEff"), nullptr, 16);
  EXPECT_NE(mints & 1ULL << CAP_SYS_ADMIN, 0U) << "somebody must have it";
}

TEST_F(MintTest, TheBrokersRoomHasNothingOfTheMachine) {
  std::ifstream mounts("/proc/" + std::to_string(broker.pid()) + "/mountinfo");
  std::set<std::string> points;
  for (std::string line; std::getline(mounts, line);) {
    std::istringstream words(line);
    std::string word;
    for (int i = 0; i < 5; ++i) words >> word;
    points.insert(word);
  }
  for (const std::string& point : points) {
    const bool known = point == "/" || point == "/proc" || point == "/sys" ||
                       point.starts_with("/sys/fs/cgroup") || point == "/dev/null" ||
                       point == "/run/systemd/journal/socket" || point.starts_with(broker.directory());
    EXPECT_TRUE(known) << point;
  }
  EXPECT_TRUE(points.contains(broker.directory()));
}

TEST_F(MintTest, KilledAtAnyMomentItIsReplacedAndNobodyHearsOfIt) {
  Client client = broker.connect();
  for (int round = 0; round < 3; ++round) {
    const pid_t mint = serving();
    ASSERT_GT(mint, 0);
    ASSERT_EQ(::kill(mint, SIGKILL), 0);
    expect_grants(client, "root/after-" + std::to_string(round));
    ASSERT_TRUE(comes_true([&] {
      const pid_t now = serving();
      return now > 0 && now != mint && heir() > 0;
    })) << round;
  }
  EXPECT_THAT(broker.log(), HasSubstr("the mint ended; its heir has its place"));
}

TEST_F(MintTest, AnHeirThatEndsIsReplacedToo) {
  pid_t before = 0;
  ASSERT_TRUE(comes_true([&] { return (before = heir()) > 0; }));
  ASSERT_EQ(::kill(before, SIGKILL), 0);
  ASSERT_TRUE(comes_true([&] {
    const pid_t now = heir();
    return now > 0 && now != before;
  }));
  ASSERT_EQ(::kill(serving(), SIGKILL), 0);
  Client client = broker.connect();
  expect_grants(client, "root/after-both");
}

TEST_F(MintTest, KilledAgainAndAgainUnderWorkItCostsNobodyAnything) {
  std::atomic<bool> over{false};
  std::atomic<int> made{0};
  std::vector<std::thread> workers;
  for (int worker = 0; worker < 2; ++worker) {
    workers.emplace_back([&, worker] {
      Client client = broker.connect();
      for (int i = 0; !over.load(); ++i) {
        const std::string name = "root/w" + std::to_string(worker) + "-" + std::to_string(i);
        EXPECT_NO_THROW({
          client.create(spec(name), Access::read_write);
          client.revoke(name);
        }) << name;
        ++made;
      }
    });
  }
  for (int killed = 0; killed < 15; ++killed) {
    const int before = made.load();
    pid_t mint = 0;
    ASSERT_TRUE(comes_true([&] { return (mint = serving()) > 0 && heir() > 0; })) << killed;
    ::kill(mint, SIGKILL);
    ASSERT_TRUE(comes_true([&] { return made.load() > before + 2; })) << killed;
  }
  over = true;
  for (std::thread& worker : workers) worker.join();
}

TEST_F(MintTest, AStoppedMintIsKilledAndReplaced) {
  const pid_t mint = serving();
  ASSERT_EQ(::kill(mint, SIGSTOP), 0);
  Client client = broker.connect();
  expect_grants(client, "root/after-a-stop");
  EXPECT_NE(serving(), mint);
}

TEST_F(MintTest, WithoutMintAndHeirTheBrokerEndsAndTheNextHasEverything) {
  {
    Client client = broker.connect();
    expect_grants(client, "root/kept");
    // Together, before one could make the other: its children would be nobody's.
    pid_t next = 0;
    ASSERT_TRUE(comes_true([&] { return (next = heir()) > 0; }));
    const pid_t mint = serving();
    ::kill(mint, SIGSTOP);
    ::kill(next, SIGKILL);
    ::kill(mint, SIGKILL);
    ASSERT_TRUE(broker.await_end());
  }
  EXPECT_THAT(broker.log(), HasSubstr("the mint and its heir have ended"));
  ASSERT_TRUE(comes_true([&] { return mints_of(broker.state()).empty(); }));
  broker.start();
  EXPECT_EQ(Mapping(broker.connect().open("root/kept", Access::read_only)).bytes()[0], std::byte{42});
}

TEST_F(MintTest, ItEndsWithItsBroker) {
  broker.kill_broker();
  EXPECT_TRUE(comes_true([&] { return mints_of(broker.state()).empty(); }));
}

TEST_F(MintTest, KeepersThatItMakesAreTheBrokersAndSayHowTheyEnded) {
  Client client = broker.connect();
  for (int round = 0; round < 2; ++round) {
    const pid_t first = broker.keeper_pid();
    EXPECT_EQ(status_word(first, "PPid"), std::to_string(broker.pid()));
    broker.kill_keeper();
    ASSERT_TRUE(comes_true([&] {
      const pid_t now = broker.keeper_pid();
      return now != 0 && now != first;
    }));
    expect_grants(client, "root/keeper-" + std::to_string(round));
  }
  EXPECT_THAT(broker.log(), HasSubstr("was ended by signal 9"));
}

TEST_F(MintTest, APolicyFileIsReadThroughIt) {
  broker.set_policy(policy("[pool.more]\nbacking = \"memory\"\ncapacity = \"64M\"\n"));
  EXPECT_EQ(mapcap(broker, {"reload"}).status, 0);
  RegionSpec wanted = spec("root/more");
  wanted.pool = "more";
  EXPECT_NO_THROW(broker.connect().create(wanted, Access::read_write));
  ASSERT_EQ(::kill(serving(), SIGKILL), 0);
  broker.set_policy(policy());
  EXPECT_NE(mapcap(broker, {"reload"}).status, 0) << "a pool with a region in it goes nowhere";
  EXPECT_EQ(::chmod((broker.directory() + "/policy.toml").c_str(), 0666), 0);
  const CommandResult untrusted = mapcap(broker, {"reload"});
  EXPECT_NE(untrusted.status, 0);
  EXPECT_THAT(untrusted.err, HasSubstr("policy.toml")) << "the mint looks whose file it is";
}

// Whether it can is the machine's matter, not one of what the broker has given up.
TEST_F(MintTest, APoolOfLsmThatAReloadAddsIsConfinedByIt) {
  broker.set_policy(
      policy("[pool.marked]\nbacking = \"memory\"\ncapacity = \"64M\"\nconfinement = \"lsm\"\n"));
  const CommandResult reloaded = mapcap(broker, {"reload"});
  if (reloaded.status != 0) {
    EXPECT_THAT(reloaded.err, HasSubstr("cannot have confinement lsm on this machine"));
    EXPECT_THAT(reloaded.err, Not(HasSubstr("restart")));
    return;
  }
  Client client = broker.connect();
  RegionSpec wanted = spec("root/marked");
  wanted.pool = "marked";
  Mapping mapping(client.create(wanted, Access::read_write));
  mapping.writable()[0] = std::byte{42};
  ASSERT_EQ(::kill(serving(), SIGKILL), 0);
  wanted.name = "root/marked-too";
  const Grant grant = client.create(wanted, Access::read_write);
  char byte = 0;
  EXPECT_EQ(::pread(grant.fd(), &byte, 1, 0), -1);
  client.revoke("root/marked");
}

TEST_F(MintTest, APoolOfFilesThatAReloadAddsIsOpenedByIt) {
  const std::string path = broker.directory() + "-files";
  std::filesystem::create_directory(path);
  ::chmod(path.c_str(), 0700);
  broker.set_policy(
      policy("[pool.files]\nbacking = \"dax-file\"\ncapacity = \"16M\"\npath = \"" + path + "\"\n"));
  const CommandResult reloaded = mapcap(broker, {"reload"});
  EXPECT_EQ(reloaded.status, 0) << reloaded.err;
  if (reloaded.status == 0) {
    Client client = broker.connect();
    RegionSpec wanted = spec("root/file");
    wanted.pool = "files";
    client.create(wanted, Access::read_write);
    EXPECT_FALSE(std::filesystem::is_empty(path));
    client.revoke("root/file");
  }
  broker.terminate();
  std::error_code ignored;
  std::filesystem::remove_all(path, ignored);
}

/// mapcapd_faults, which becomes another program where mapcapd would begin to serve.
TEST_F(MintTest, WhoeverTakesTheBrokerOverHasNothing) {
  broker.terminate();
  const int program = ::open(MAPCAP_STRANGER_PATH, O_RDONLY | O_CLOEXEC);
  ASSERT_GE(program, 0);
  struct stat status {};
  ASSERT_EQ(::fstat(program, &status), 0);
  // In memory: the broker that is taken over can execute nothing else.
  const int memory = ::memfd_create("stranger", 0);
  ASSERT_EQ(::sendfile(memory, program, nullptr, static_cast<std::size_t>(status.st_size)), status.st_size);
  ::close(program);
  broker.set_program(MAPCAPD_FAULTS_PATH);
  broker.set_environment({"MAPCAP_STRANGER=" + std::to_string(memory)});
  EXPECT_FALSE(broker.start_if_it_lives());
  ::close(memory);
  std::string log = broker.log();
  EXPECT_THAT(log, HasSubstr("stranger: tried everything"));
#ifdef MAPCAP_SANITIZED
  // A leak checker traces the process that it is a child of, and the filter of these builds lets it.
  const std::string traced = "stranger: ptrace: DONE";
  if (const std::size_t at = log.find(traced); at != std::string::npos)
    log.replace(at, traced.size(), "stranger: ptrace: allowed here");
#endif
  EXPECT_THAT(log, Not(HasSubstr("DONE")));
  EXPECT_THAT(log, Not(HasSubstr("CRASHED")));
  for (const char* tried : {"read-shadow", "write-etc", "mount", "ptrace", "bpf", "grant", "exec"})
    EXPECT_THAT(log, HasSubstr(std::string("stranger: ") + tried + ": "));
  EXPECT_FALSE(std::filesystem::exists("/etc/mapcap-stranger"));
}

}  // namespace
}  // namespace mapcap::test
