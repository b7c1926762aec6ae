// Limits that are not ours, each met on purpose: refused with the limit's name, nobody ends, nothing is lost.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/broker_process.h"
#include "tests/support/mints.h"
#include "tests/support/patience.h"

namespace mapcap::test {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;

class OutsideLimitsTest : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root: it starts mapcapd";
  }
};

/// In a child that may not raise its limits, with a broker that may not either.
int limited(const std::function<void()>& body) {
  return as_user(0, [&] {
    ::prctl(PR_CAPBSET_DROP, CAP_SYS_RESOURCE);
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    std::array<__user_cap_data_struct, 2> data{};
    ::syscall(SYS_capget, &header, data.data());
    data[0].effective &= ~(1U << CAP_SYS_RESOURCE);
    data[0].permitted &= ~(1U << CAP_SYS_RESOURCE);
    ::syscall(SYS_capset, &header, data.data());
    body();
    return testing::Test::HasFailure() ? 1 : 0;
  });
}

RegionSpec spec(const std::string& name, std::uint64_t size = 4096) {
  RegionSpec wanted;
  wanted.name = name;
  wanted.size = size;
  wanted.lifetime = Lifetime::persistent();
  return wanted;
}

std::optional<Error> refusal(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return error;
  }
  return std::nullopt;
}

TEST_F(OutsideLimitsTest, OpenFilesRunOutForRegionsBeforeTheyDoForConnections) {
  EXPECT_EQ(limited([] {
              const rlimit few{256, 256};
              ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &few), 0);
              BrokerProcess broker;
              broker.start();
              Client client = broker.connect();
              std::optional<Error> refused;
              std::size_t made = 0;
              for (; made < 300 && !refused; ++made) {
                refused = refusal([&] {
                  Mapping mapping(client.create(spec("root/" + std::to_string(made)), Access::read_write));
                  *mapping.writable_at<std::size_t>(0) = made;
                });
              }
              ASSERT_TRUE(refused) << "the broker had descriptors for 300 regions";
              --made;
              EXPECT_EQ(refused->code(), ErrorCode::exhausted);
              EXPECT_THAT(refused->what(), HasSubstr("RLIMIT_NOFILE"));
              EXPECT_EQ(refused->detail("limit_name"), "RLIMIT_NOFILE");
              EXPECT_GT(made, 100U);
              // Somebody who comes only now is served, can look, and can make room.
              std::vector<Client> others;
              for (int i = 0; i < 8; ++i) others.push_back(broker.connect());
              for (std::size_t i = 0; i < made; ++i) {
                const Mapping mapping(others.back().open("root/" + std::to_string(i), Access::read_only));
                ASSERT_EQ(*mapping.at<std::size_t>(0), i);
              }
              others.front().revoke("root/0");
              std::optional<Error> again = refused;
              EXPECT_TRUE(comes_true([&] {
                again = refusal([&] { client.create(spec("root/next")); });
                return !again;
              })) << again->what();
              broker.kill_broker();
              broker.start();
              EXPECT_EQ(client.list().size(), made);
              EXPECT_EQ(*Mapping(client.open("root/1", Access::read_only)).at<std::size_t>(0), 1U);
            }),
            0);
}

/// A pids cgroup of the test's own; empty path where none can be had.
class PidsGroup {
 public:
  PidsGroup() {
    for (const char* root : {"/sys/fs/cgroup/pids", "/sys/fs/cgroup"}) {
      const std::string path = std::string(root) + "/mapcap-test-" + std::to_string(::getpid());
      if (::mkdir(path.c_str(), 0755) != 0) continue;
      path_ = path;
      if (std::filesystem::exists(path + "/pids.max")) return;
      ::rmdir(path.c_str());
      path_.clear();
    }
  }
  ~PidsGroup() {
    (void)comes_true([this] { return path_.empty() || ::rmdir(path_.c_str()) == 0; });
  }
  PidsGroup(const PidsGroup&) = delete;
  PidsGroup& operator=(const PidsGroup&) = delete;
  [[nodiscard]] bool there() const { return !path_.empty(); }
  void take(pid_t pid) const { std::ofstream(path_ + "/cgroup.procs") << pid; }
  void limit(const std::string& most) const { std::ofstream(path_ + "/pids.max") << most; }
  [[nodiscard]] std::string now() const {
    std::string value;
    std::ifstream(path_ + "/pids.current") >> value;
    return value;
  }

 private:
  std::string path_;
};

TEST_F(OutsideLimitsTest, WithoutAProcessLeftTheDeadKeeperIsReplacedAsSoonAsThereIsOneAndNothingIsLost) {
  const PidsGroup group;
  if (!group.there()) GTEST_SKIP() << "no pids cgroup can be made here";
  BrokerProcess broker;
  broker.start();
  group.take(broker.pid());
  group.take(broker.keeper_pid());
  // Keepers are forked by the mint.
  for (const MintProcess& mint : mints_of(broker.state())) group.take(mint.pid);
  Client client = broker.connect();
  {
    Mapping mapping(client.create(spec("root/kept"), Access::read_write));
    *mapping.writable_at<int>(0) = 42;
  }
  group.limit("1");  // Fewer than there are: nobody may fork.
  const pid_t first = broker.keeper_pid();
  broker.kill_keeper();
  const std::optional<Error> refused = refusal([&] { client.create(spec("root/meanwhile")); });
  if (refused) {
    EXPECT_THAT(refused->what(), HasSubstr("keeper"));
  }
  const std::size_t regions = refused ? 1 : 2;
  EXPECT_EQ(client.list().size(), regions) << "the broker goes on";
  BrokerStatus unguarded;
  // The create may have been quicker than the news of the keeper's end.
  ASSERT_TRUE(comes_true([&] {
    unguarded = client.status();
    return unguarded.unguarded == regions;
  })) << unguarded.unguarded;
  ASSERT_EQ(unguarded.unguarded_regions.size(), regions);
  EXPECT_TRUE(std::any_of(unguarded.unguarded_regions.begin(), unguarded.unguarded_regions.end(),
                          [](const auto& region) { return region.name == "root/kept"; }));
  EXPECT_FALSE(unguarded.keeper.serving);
  EXPECT_EQ(as_user(65534,
                    [&] {
                      const BrokerStatus seen = broker.connect().status();
                      return seen.unguarded == regions && seen.unguarded_regions.empty() ? 0 : 1;
                    }),
            0)
      << "other people's names are not told";
  const std::optional<Error> stays = refusal([&] { client.shutdown(); });
  ASSERT_TRUE(stays) << "the memory would have been lost";
  EXPECT_EQ(stays->code(), ErrorCode::busy);
  EXPECT_THAT(stays->what(), HasSubstr("would be lost"));
  group.limit("max");
  pid_t now = 0;
  EXPECT_TRUE(comes_true([&] {
    now = broker.keeper_pid();
    return now != 0 && now != first;
  }));
  client.create(spec("root/afterwards"));
  const BrokerStatus guarded = client.status();
  EXPECT_EQ(guarded.unguarded, 0U);
  EXPECT_TRUE(guarded.unguarded_regions.empty());
  EXPECT_TRUE(guarded.keeper.serving);
  EXPECT_EQ(guarded.keeper.replaced, 1U);
  EXPECT_THAT(guarded.keeper.last_end, HasSubstr("signal 9"));
  EXPECT_EQ(guarded.keeper.held, regions + 1);
  broker.kill_broker();
  broker.start();
  EXPECT_EQ(*Mapping(client.open("root/kept", Access::read_only)).at<int>(0), 42);
}

TEST_F(OutsideLimitsTest, ALockedMemoryLimitOfTheHolderIsNamedWhereSecretMemoryMeetsIt) {
  const int probe = static_cast<int>(::syscall(SYS_memfd_secret, 0));
  if (probe < 0) GTEST_SKIP() << "this kernel offers no memfd_secret";
  ::close(probe);
  BrokerProcess broker(open_policy("", "secret = true\n"));
  broker.start();
  const int ended = as_user(65534, [&] {
    const rlimit little{64 << 10, 64 << 10};
    ::setrlimit(RLIMIT_MEMLOCK, &little);
    Client client = broker.connect();
    const Grant grant = client.create(spec("nobody/secret", 1 << 20), Access::read_write);
    const std::optional<Error> refused = refusal([&] { const Mapping mapping(grant); });
    if (!refused) return 2;
    std::fprintf(stderr, "%s\n", refused->what());
    return std::string(refused->what()).find("RLIMIT_MEMLOCK") != std::string::npos ? 0 : 3;
  });
  EXPECT_EQ(ended, 0);
  EXPECT_EQ(broker.connect().list().size(), 1U);
}

}  // namespace
}  // namespace mapcap::test
