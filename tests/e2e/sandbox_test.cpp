// What broker and keeper have given up before the first client is served.
#include "broker/sandbox/sandbox.h"

#include <gtest/gtest.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include "tests/support/broker_process.h"
#include "tests/support/patience.h"

namespace mapcap::test {
namespace {

std::string status_field(pid_t pid, const std::string& field) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(status, line);) {
    if (!line.starts_with(field + ":")) continue;
    const std::size_t value = line.find_first_not_of(" \t", field.size() + 1);
    return line.substr(value);
  }
  return "(none)";
}

std::uint64_t capabilities(pid_t pid, const char* which) {
  return std::stoull(status_field(pid, which), nullptr, 16);
}

class SandboxTest : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root: it starts mapcapd";
  }
};

TEST_F(SandboxTest, TheBrokerKeepsOnlyTheCapabilitiesItNames) {
  BrokerProcess broker;
  broker.start();
  constexpr std::uint64_t kMayKeep = 1ULL << CAP_SYS_ADMIN | 1ULL << CAP_LINUX_IMMUTABLE |
                                     1ULL << CAP_SYS_RESOURCE | 1ULL << CAP_IPC_LOCK | 1ULL << CAP_BPF |
                                     1ULL << CAP_PERFMON;
  EXPECT_EQ(capabilities(broker.pid(), "CapEff") & ~kMayKeep, 0U);
  EXPECT_EQ(capabilities(broker.pid(), "CapPrm") & ~kMayKeep, 0U);
  EXPECT_EQ(capabilities(broker.pid(), "CapBnd") & ~kMayKeep, 0U);
  EXPECT_EQ(capabilities(broker.pid(), "CapAmb"), 0U);
  EXPECT_EQ(status_field(broker.pid(), "NoNewPrivs"), "1");
  EXPECT_EQ(status_field(broker.pid(), "Seccomp"), "2");
}

// Whoever may not lower its nice value asks what it is, and that call was not in the filter: each new keeper
// was killed.
TEST_F(SandboxTest, WithoutTheRightToPrecedenceAKeeperIsReplacedAllTheSame) {
  const int ended = as_user(0, [] {
    // A child of this test, which cannot get it back; started without RLIMIT_NICE.
    const rlimit none{0, 0};
    if (::prctl(PR_CAPBSET_DROP, CAP_SYS_NICE) != 0 || ::setrlimit(RLIMIT_NICE, &none) != 0) return 2;
    BrokerProcess broker;
    broker.start();
    RegionSpec wanted;
    wanted.name = "root/before";
    wanted.size = 4096;
    wanted.lifetime = Lifetime::persistent();
    Client client = broker.connect();
    client.create(wanted);
    const pid_t first = broker.keeper_pid();
    broker.kill_keeper();
    (void)comes_true([&] {
      const pid_t now = broker.keeper_pid();
      return now != 0 && now != first;
    });
    wanted.name = "root/after";
    client.create(wanted, Access::read_write);
    return 0;
  });
  EXPECT_EQ(ended, 0);
}

TEST_F(SandboxTest, TheKeeperKeepsNone) {
  BrokerProcess broker;
  broker.start();
  const pid_t keeper = broker.keeper_pid();
  ASSERT_GT(keeper, 0);
  for (const char* which : {"CapEff", "CapPrm", "CapInh", "CapAmb"})
    EXPECT_EQ(capabilities(keeper, which), 0U) << which;
  EXPECT_EQ(status_field(keeper, "NoNewPrivs"), "1");
  EXPECT_EQ(status_field(keeper, "Seccomp"), "2");
}

/// sched_attr of sched_getattr(2), as far as every kernel knows it.
struct Scheduling {
  std::uint32_t size = 0;
  std::uint32_t policy = 0;
  std::uint64_t flags = 0;
  std::int32_t nice = 0;
  std::uint32_t priority = 0;
  std::uint64_t slice_ns = 0;  ///< 0 before Linux 6.12.
  std::uint64_t deadline_ns = 0;
  std::uint64_t period_ns = 0;
};

Scheduling scheduling_of(pid_t thread) {
  Scheduling found;
  EXPECT_EQ(::syscall(SYS_sched_getattr, thread, &found, sizeof found, 0), 0) << thread;
  return found;
}

TEST_F(SandboxTest, BrokerAndKeeperAnswerAheadOfOthersAndScrubbersWorkBehind) {
  if ((capabilities(::getpid(), "CapEff") & 1ULL << CAP_SYS_NICE) == 0)
    GTEST_SKIP() << "needs CAP_SYS_NICE: priority cannot be raised without";
  BrokerProcess broker;
  broker.start();
  const Scheduling own = scheduling_of(0);
  int patient = 0;
  int prompt = 0;
  for (const auto& task :
       std::filesystem::directory_iterator("/proc/" + std::to_string(broker.pid()) + "/task")) {
    const Scheduling found = scheduling_of(std::stoi(task.path().filename()));
    const bool ahead = found.nice == -10 && (own.slice_ns == 0 || found.slice_ns == 100'000);
    const bool like_others = found.nice == 0 && found.slice_ns == own.slice_ns;
    prompt += ahead ? 1 : 0;
    patient += like_others ? 1 : 0;
    EXPECT_TRUE(ahead || like_others) << found.nice << " " << found.slice_ns;
  }
  EXPECT_GE(patient, 2);  // The scrubbers, and what else nobody waits for.
  EXPECT_GT(prompt, 8);   // The loop, its workers, the issuer.
  const Scheduling keeper = scheduling_of(broker.keeper_pid());
  EXPECT_EQ(keeper.nice, -10);
  EXPECT_TRUE(own.slice_ns == 0 || keeper.slice_ns == 100'000) << keeper.slice_ns;
}

// The broker has given up CAP_SYS_NICE by the time that it forks another.
TEST_F(SandboxTest, AKeeperThatABrokerForksAfterAdoptingOneHasTheSamePriority) {
  if ((capabilities(::getpid(), "CapEff") & 1ULL << CAP_SYS_NICE) == 0)
    GTEST_SKIP() << "needs CAP_SYS_NICE: priority cannot be raised without";
  BrokerProcess broker;
  broker.start();
  const pid_t first = broker.keeper_pid();
  const int priority = ::getpriority(PRIO_PROCESS, static_cast<id_t>(first));
  EXPECT_LT(priority, 0);
  broker.kill_broker();
  broker.start();
  ASSERT_EQ(broker.keeper_pid(), first);
  broker.kill_keeper();
  pid_t second = 0;
  ASSERT_TRUE(comes_true([&] {
    second = broker.keeper_pid();
    return second != 0 && second != first;
  }));
  // It takes its priority a moment after its name.
  (void)comes_true([&] { return ::getpriority(PRIO_PROCESS, static_cast<id_t>(second)) != 0; });
  EXPECT_EQ(::getpriority(PRIO_PROCESS, static_cast<id_t>(second)), priority);
}

TEST_F(SandboxTest, AForbiddenSystemCallEndsTheProcess) {
  const auto ends_by = [](long number, long a, long b, long c) {
    return as_user(0, [=] {
      if (!broker::sandbox::filter_system_calls()) return 2;
      ::syscall(number, a, b, c);
      return 0;  // The call came back, whatever it said.
    });
  };
  EXPECT_EQ(ends_by(SYS_getpid, 0, 0, 0), 0) << "an allowed call must come back";
  for (const long number : {SYS_execve, SYS_execveat, SYS_mount, SYS_setns, SYS_unshare, SYS_keyctl,
                            SYS_io_uring_setup, SYS_pivot_root, SYS_open_by_handle_at, SYS_userfaultfd}) {
    EXPECT_EQ(ends_by(number, 0, 0, 0), 128 + SIGSYS) << "system call " << number;
  }
}

TEST_F(SandboxTest, LibrariesThatAskForModulesAreRefused) {
  for (const long number : {SYS_init_module, SYS_finit_module}) {
    const int refused = as_user(0, [=] {
      if (!broker::sandbox::filter_system_calls()) return 2;
      return ::syscall(number, 0, 0, 0) == -1 && errno == EPERM ? 0 : 1;
    });
    EXPECT_EQ(refused, 0) << "system call " << number;
  }
}

}  // namespace
}  // namespace mapcap::test
