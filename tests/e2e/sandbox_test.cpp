// What broker and keeper have given up before the first client is served.
#include "broker/sandbox/sandbox.h"

#include <gtest/gtest.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <fstream>
#include <string>
#include <thread>

#include "tests/support/broker_process.h"

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

// The broker has given up CAP_SYS_NICE by the time that it forks another.
TEST_F(SandboxTest, AKeeperThatABrokerForksAfterAdoptingOneHasTheSamePriority) {
  if ((capabilities(::getpid(), "CapEff") & 1ULL << CAP_SYS_RESOURCE) == 0)
    GTEST_SKIP() << "needs CAP_SYS_RESOURCE: RLIMIT_NICE cannot be raised without";
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
  for (int i = 0; i < 2000 && (second == 0 || second == first); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    second = broker.keeper_pid();
  }
  ASSERT_NE(second, first);
  // It takes its priority a moment after its name.
  for (int i = 0; i < 400 && ::getpriority(PRIO_PROCESS, static_cast<id_t>(second)) == 0; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
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
