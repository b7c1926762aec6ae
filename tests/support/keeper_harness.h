// A keeper in a state directory of its own, driven from coroutines on a loop.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "base/machine/machine.h"
#include "broker/keeper/keeper.h"
#include "broker/wait/loop.h"
#include "broker/wait/task.h"
#include "mapcap/fd.h"
#include "tests/support/kernel_time.h"

namespace mapcap::test {

using broker::Loop;
using broker::Task;
using broker::confine::Confiner;
using broker::confine::GrantId;
using broker::confine::Issued;
using broker::confine::Label;
using broker::confine::LiveGrant;
using broker::keeper::HeldMemory;
using broker::keeper::Keeper;
using broker::keeper::KeeperOptions;

/// In a coroutine: a failed condition ends it.
#define CO_ASSERT(condition)                \
  if (!(condition)) {                       \
    ADD_FAILURE() << "failed: " #condition; \
    co_return;                              \
  }

/// Why clones cannot be tested here; empty: they can.
inline std::string clones_missing() {
  if (::geteuid() != 0) return "needs root: the keeper mounts FUSE and registers backings (CAP_SYS_ADMIN)";
  const machine::Fact passthrough = machine::fuse_passthrough();
  return passthrough.presence == machine::Presence::present ? std::string() : passthrough.found;
}

#define REQUIRE_CLONES() \
  if (const std::string missing = mapcap::test::clones_missing(); !missing.empty()) GTEST_SKIP() << missing

class KeeperTest : public testing::Test {
 protected:
  void SetUp() override {
    // Keepers of brokers that tests kill become this process's children: it takes their exit status.
    ::prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    std::string pattern = "/tmp/mapcap-keeper-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    options.state_directory = pattern;
  }

  void TearDown() override {
    if (options.state_directory.empty()) return;
    // A keeper that a test left behind ends here.
    if (std::filesystem::exists(options.state_directory + "/keeper.sock")) {
      if (auto left = Keeper::adopt_or_start(options)) left.value()->shut_down();
    }
    std::filesystem::remove_all(options.state_directory);
    while (::waitpid(-1, nullptr, WNOHANG) > 0) {
    }
  }

  /// Runs one coroutine to its end on a loop in that time; fails when it hangs.
  static void drive(broker::TimeSource& time, const std::function<Task<void>(Loop&)>& body) {
    Loop loop(time);
    bool done = false;
    KernelTime limit(loop);
    const auto guard = [&]() -> Task<void> {
      const bool late = co_await limit.pass(2 * kPatience);
      if (!late) co_return;
      ADD_FAILURE() << "the test's coroutine did not end";
      loop.stop();
    };
    const auto wrapped = [&]() -> Task<void> {
      co_await body(loop);
      done = true;
      limit.cancel();
      // What was destroyed in the body still has its last words on the loop.
      for (int i = 0; i < 4; ++i) co_await loop.yield();
      KernelTime kernel(loop);
      (void)co_await kernel.pass(std::chrono::milliseconds(1));
      loop.stop();
    };
    loop.post([&] { broker::spawn(guard()); });
    loop.post([&] { broker::spawn(wrapped()); });
    loop.run();
    EXPECT_TRUE(done);
  }
  static void drive(const std::function<Task<void>(Loop&)>& body) {
    broker::BootTime time;
    drive(time, body);
  }

  std::unique_ptr<Keeper> start() {
    auto keeper = Keeper::adopt_or_start(options);
    EXPECT_TRUE(keeper) << (keeper ? "" : keeper.error().sentence);
    return keeper ? std::move(keeper.value()) : nullptr;
  }

  /// A memfd as the memory pool makes it.
  static Fd memory(ByteCount size) {
    Fd fd(::memfd_create("keeper-test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    EXPECT_TRUE(fd.valid());
    EXPECT_EQ(::fchmod(fd.get(), 0600), 0);
    EXPECT_EQ(::ftruncate(fd.get(), static_cast<off_t>(size.value)), 0);
    EXPECT_EQ(::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL), 0);
    return fd;
  }

  static Label label(ByteCount size, Access rights) {
    return {"alice/frames", size, rights, "wc", "wb", "none volatile", "clone", {65534, 65533}};
  }

  /// What times out is the keeper's end, and not the machine's slowness.
  static KeeperOptions patient() {
    KeeperOptions all;
    all.issue_deadline = all.kill_after = kPatience;
    return all;
  }
  KeeperOptions options = patient();
};

/// The number of open descriptors of a process.
inline std::size_t descriptors_of(pid_t pid) {
  const std::filesystem::directory_iterator all("/proc/" + std::to_string(pid) + "/fd");
  return static_cast<std::size_t>(std::distance(begin(all), end(all)));
}

}  // namespace mapcap::test
