// Promise 7: who holds a grant pays for it, before a restart of the broker and after.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <map>
#include <tuple>

#include "tests/support/broker_process.h"

namespace mapcap::test {
namespace {

constexpr uid_t kHolder = 64001;
constexpr gid_t kHoldersGroup = 64002;  // Neither the holder's uid nor the region's group.

class PayerTest : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root: it starts mapcapd";
    broker.start();
  }
  void TearDown() override {
    if (holder_ <= 0) return;
    ::kill(holder_, SIGKILL);
    ::waitpid(holder_, nullptr, 0);
  }

  /// A process that keeps what `take` returns.
  template <typename Take>
  void start_holder(Take take) {
    std::array<int, 2> ready{};
    ASSERT_EQ(::pipe2(ready.data(), O_CLOEXEC), 0);
    holder_ = ::fork();
    if (holder_ == 0) {
      if (::setresgid(kHoldersGroup, kHoldersGroup, kHoldersGroup) != 0 ||
          ::setresuid(kHolder, kHolder, kHolder) != 0)
        ::_exit(1);
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      try {
        const auto kept = take(broker.connect());
        (void)!::write(ready[1], "x", 1);
        for (;;) ::pause();
      } catch (const std::exception& error) {
        std::fprintf(stderr, "holder: %s\n", error.what());
      }
      ::_exit(1);
    }
    ::close(ready[1]);
    char byte = 0;
    ASSERT_EQ(::read(ready[0], &byte, 1), 1) << "the holder did not get what it holds";
    ::close(ready[0]);
  }

  using Slot = std::tuple<SubjectKind, std::uint32_t, std::string>;
  std::map<Slot, std::uint64_t> grants() const {
    std::map<Slot, std::uint64_t> all;
    for (const QuotaInfo& info : broker.connect().quota()) {
      if (info.grants > 0) all[{info.slot.subject, info.slot.id, info.slot.pool}] = info.grants;
    }
    return all;
  }
  void restart() {
    broker.kill_broker();
    broker.start();
  }

  /// A group is counted when it has a limit.
  BrokerProcess broker{open_policy("[[quota]]\ngroup = " + std::to_string(kHoldersGroup) +
                                   "\npool = \"dram\"\ngrants = 100\n")};
  pid_t holder_ = 0;
};

TEST_F(PayerTest, AGrantOfSomebodyElsesRegionIsItsHoldersAndHisGroupsAlsoAfterARestart) {
  RegionSpec wanted;
  wanted.name = "root/shared";
  wanted.size = 4096;
  wanted.mode = 0604;
  wanted.lifetime = Lifetime::persistent();
  broker.connect().create(wanted);
  start_holder([](Client client) { return client.open("root/shared", Access::read_only); });
  const std::map<Slot, std::uint64_t> expected{{{SubjectKind::user, kHolder, ""}, 1},
                                               {{SubjectKind::user, kHolder, "dram"}, 1},
                                               {{SubjectKind::group, kHoldersGroup, ""}, 1},
                                               {{SubjectKind::group, kHoldersGroup, "dram"}, 1}};
  EXPECT_EQ(grants(), expected);
  restart();
  EXPECT_EQ(grants(), expected);
}

TEST_F(PayerTest, ACloneOfAFileIsItsHoldersAndHisGroupsAlsoAfterARestart) {
  start_holder([](Client client) {
    const int file = ::memfd_create("passed", MFD_CLOEXEC);
    if (::ftruncate(file, 4096) != 0) ::_exit(2);
    return client.clone(file, Access::read_only);
  });
  const std::map<Slot, std::uint64_t> expected{{{SubjectKind::user, kHolder, ""}, 1},
                                               {{SubjectKind::group, kHoldersGroup, ""}, 1}};
  EXPECT_EQ(grants(), expected);
  restart();
  EXPECT_EQ(grants(), expected);
}

}  // namespace
}  // namespace mapcap::test
