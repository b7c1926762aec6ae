// A deny of who runs below a cgroup, and what is told of where holders ran, at a broker that asks the kernel for it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <string>
#include <vector>

#include "tests/support/broker_process.h"

namespace mapcap::test {
namespace {

constexpr uid_t kSomebody = 64001;

/// A cgroup of the unified hierarchy, and one below it.
class Cgroup {
 public:
  Cgroup() {
    for (const std::string root : {"/sys/fs/cgroup/unified", "/sys/fs/cgroup"}) {
      if (::access((root + "/cgroup.procs").c_str(), W_OK) != 0) continue;
      const std::string path = root + name_;
      if (::mkdir(path.c_str(), 0755) != 0) continue;
      path_ = path;
      below_ = ::mkdir((path + "/below.service").c_str(), 0755) == 0;
      return;
    }
  }
  Cgroup(const Cgroup&) = delete;
  Cgroup& operator=(const Cgroup&) = delete;
  ~Cgroup() {
    if (path_.empty()) return;
    ::rmdir((path_ + "/below.service").c_str());
    ::rmdir(path_.c_str());
  }
  [[nodiscard]] bool there() const { return below_; }
  [[nodiscard]] const std::string& name() const { return name_; }
  /// The calling process goes there.
  [[nodiscard]] bool enter(const std::string& below = "") const {
    std::ofstream procs(path_ + below + "/cgroup.procs");
    procs << ::getpid() << std::flush;
    return procs.good();
  }

 private:
  std::string name_ = "/mapcap-place-" + std::to_string(::getpid());
  std::string path_;
  bool below_ = false;
};

TEST(PlaceTest, WhoRunsThereIsDeniedAndNobodyElse) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root: it starts mapcapd";
  const Cgroup group;
  if (!group.there()) GTEST_SKIP() << "no cgroup can be made here";
  BrokerProcess broker(R"([pool.dram]
backing = "memory"
capacity = "64M"
[[rule]]
any = true
[[rule]]
any = true
effect = "deny"
cgroup = ")" + group.name() +
                       "\"\n[[rule]]\nany = true\neffect = \"deny\"\nunit = \"never.service\"\n");
  broker.start();
  // 0: allowed, 1: denied by the rule, which is named with the place.
  const auto asks = [&] {
    try {
      broker.connect().pools();
      return 0;
    } catch (const Error& error) {
      const bool named = std::string(error.what()).find("in cgroup " + group.name()) != std::string::npos;
      return error.code() == ErrorCode::denied && named ? 1 : 2;
    }
  };
  EXPECT_EQ(as_user(kSomebody, asks), 0);
  for (const char* below : {"", "/below.service"}) {
    const pid_t child = ::fork();
    if (child == 0) ::_exit(group.enter(below) ? asks() : 3);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(WIFEXITED(status) ? WEXITSTATUS(status) : -1, 1) << "in " << group.name() << below;
  }
  EXPECT_EQ(asks(), 0) << "and again elsewhere";
}

TEST(PlaceTest, ShowAndTheRefusalOfAPublishSayWhereHoldersRan) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root: it starts mapcapd";
  const Cgroup group;
  if (!group.there()) GTEST_SKIP() << "no cgroup can be made here";
  BrokerProcess broker;
  broker.start();
  Client root = broker.connect();
  RegionSpec spec;
  spec.name = "root/model";
  spec.size = 4096;
  spec.lifetime = {LifetimeKind::persistent, {}};
  root.create(spec);
  int said[2] = {-1, -1};
  ASSERT_EQ(::pipe(said), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    if (!group.enter("/below.service")) ::_exit(3);
    Client client = broker.connect();
    const Grant grant = client.open("root/model", Access::read_write);
    (void)!::write(said[1], "x", 1);
    for (;;) ::pause();
  }
  ::close(said[1]);
  char byte = 0;
  EXPECT_EQ(::read(said[0], &byte, 1), 1) << "the child has no grant";
  ::close(said[0]);
  const RegionDetails shown = root.show("root/model");
  if (shown.region.confinement == Confinement::clone) {
    EXPECT_EQ(shown.holders, (std::vector<Holder>{{0, Access::read_write, 1, "", false, "below.service"}}));
    try {
      root.publish("root/model");
      ADD_FAILURE() << "somebody can write it";
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), testing::HasSubstr("user 0 in unit below.service has 1 writable grant"));
    }
  }
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
}

}  // namespace
}  // namespace mapcap::test
