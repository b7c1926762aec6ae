// What a peer looks like: from the kernel's text to unit and container.
#include "policy/peer_label.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "tests/support/patience.h"

namespace mapcap::policy {
namespace {

const std::string kId = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

PeerLabel named(const std::string& cgroup) {
  PeerLabel label;
  label.cgroup = cgroup;
  name_cgroup(label);
  return label;
}

TEST(PeerLabelTest, TheUnifiedHierarchyCountsAndElseSystemds) {
  EXPECT_EQ(cgroup_in("0::/system.slice/a.service\n"), "/system.slice/a.service");
  EXPECT_EQ(cgroup_in("4:memory:/x\n1:name=systemd:/system.slice/b.service\n0::/\n"),
            "/system.slice/b.service");
  EXPECT_EQ(cgroup_in("4:memory:/x\n"), "");
  EXPECT_EQ(cgroup_in("0::/\n"), "/");
  EXPECT_EQ(cgroup_in("4:memory:/\n1:name=systemd:/\n"), "/");
  EXPECT_EQ(cgroup_in("0::/system.slice/a.service (deleted)\n"), "/system.slice/a.service");
  EXPECT_EQ(cgroup_in("0::/odd:name\n"), "/odd:name");
}

TEST(PeerLabelTest, AUnitIsTheInnermostServiceOrScope) {
  EXPECT_EQ(named("/system.slice/postgresql.service").unit, "postgresql.service");
  EXPECT_EQ(named("/user.slice/user-1000.slice/user@1000.service/app.slice/x.scope").unit, "x.scope");
  EXPECT_EQ(named("/a/b").unit, "");
}

TEST(PeerLabelTest, AContainerIsTheFirstTwelveDigitsOfItsId) {
  for (const std::string& cgroup : {"/system.slice/docker-" + kId + ".scope", "/docker/" + kId,
                                    "/kubepods.slice/kubepods-pod1.slice/cri-containerd-" + kId + ".scope",
                                    "/machine.slice/libpod-" + kId + ".scope/container"}) {
    EXPECT_EQ(named(cgroup).container, "0123456789ab") << cgroup;
    EXPECT_EQ(named(cgroup).unit, "") << cgroup;
  }
  EXPECT_EQ(named("/x/" + kId + "0").container, "") << "65 digits are none";
}

TEST(PeerLabelTest, IsToldInTheMostExactWordThatThereIs) {
  const auto told = [](const std::string& cgroup) { return in_its_place(named(cgroup)); };
  EXPECT_EQ(told("/system.slice/a.service"), " in unit a.service");
  EXPECT_EQ(told("/system.slice/docker-" + std::string(64, '0') + ".scope"), " in container 000000000000");
  EXPECT_EQ(told("/system.slice/a.service/" + std::string(64, '0')), " in container 000000000000");
  EXPECT_EQ(told("/x/\x1by"), " in cgroup /x/?y");
  EXPECT_EQ(told("/"), "");
  EXPECT_EQ(told(""), "");
}

TEST(PeerLabelTest, OnlyTheProcessOfThePidfdIsLookedAt) {
  const Fd self(static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0)));
  ASSERT_TRUE(self.valid());
  EXPECT_FALSE(label_of(::getpid(), self.borrow()).program.empty());
  EXPECT_EQ(label_of(::getpid(), BorrowedFd()), PeerLabel());
  EXPECT_EQ(label_of(0, self.borrow()), PeerLabel());
}

/// Before the unified hierarchy the kernel shows it in the root, wherever its other threads are.
TEST(PeerLabelTest, AProcessWhoseFirstThreadHasEndedIsNotInTheRootForIt) {
  const pid_t child = ::fork();
  if (child == 0) {
    std::thread([] {
      for (;;) ::pause();
    }).detach();
    ::syscall(SYS_exit, 0);
  }
  const Fd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, child, 0)));
  ASSERT_TRUE(pidfd.valid());
  EXPECT_TRUE(test::comes_true([&] { return label_of(child, pidfd.borrow()).cgroup != "/"; }));
  EXPECT_FALSE(label_of(child, pidfd.borrow()).program.empty()) << "it is there";
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
}

}  // namespace
}  // namespace mapcap::policy
