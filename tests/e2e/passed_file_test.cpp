// Files that clients pass to be cloned: what they may do to the broker, and to those who trust their seals.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "mapcap/fd.h"
#include "tests/support/broker_process.h"
#include "tests/support/hostile_filesystem.h"

namespace mapcap::test {
namespace {

using namespace std::chrono_literals;

constexpr uid_t kAttacker = 64001;

class PassedFileTest : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root: it starts mapcapd";
    broker.start();
  }

  /// What takes the loop, a worker and the keeper, by somebody else.
  void expect_service() {
    Client client = broker.connect();
    for (int round = 0; round < 5; ++round) {
      RegionSpec wanted;
      wanted.name = "good/region";
      wanted.size = 4U << 20U;  // Large enough to be cut by a worker.
      wanted.seal = SealKind::revocable;
      Mapping mapping(client.create(wanted, Access::read_write));
      mapping.writable()[0] = std::byte{1};
      client.revoke("good/region");
    }
  }

  BrokerProcess broker;
};

TEST_F(PassedFileTest, AFilesystemThatKeepsAClosingWaitHoldsNobodyUp) {  // Promises 9 and 12
  std::vector<std::unique_ptr<HostileFilesystem>> filesystems;
  for (const int flushes : {0, 0, 0, 0, 1, 2}) {
    filesystems.push_back(std::make_unique<HostileFilesystem>(
        flushes, kAttacker, [this](int fd) { broker.connect().clone(fd, Access::read_only); }));
    if (!filesystems.back()->mounted()) GTEST_SKIP() << "no FUSE filesystem can be mounted here";
    EXPECT_TRUE(filesystems.back()->client_is_done()) << "after " << flushes << " answered flushes";
  }
  expect_service();
}

TEST_F(PassedFileTest, WhoHasManyFilesThatHangIsRefusedMore) {
  HostileFilesystem filesystem(0, kAttacker, [this](int fd) {
    Client client = broker.connect();
    for (int i = 0; i < 40; ++i) {
      try {
        client.clone(fd, Access::read_only);
      } catch (const Error& error) {
        if (error.code() == ErrorCode::exhausted) return;
      }
    }
    std::this_thread::sleep_for(1h);
  });
  if (!filesystem.mounted()) GTEST_SKIP() << "no FUSE filesystem can be mounted here";
  EXPECT_TRUE(filesystem.client_is_done()) << "40 files that hang were examined";
  expect_service();
}

TEST_F(PassedFileTest, AFileOnAReadOnlyMountIsRefusedForThatReason) {
  const Fd settings(::fsopen("tmpfs", FSOPEN_CLOEXEC));
  ASSERT_EQ(::fsconfig(settings.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0), 0);
  const Fd mount(::fsmount(settings.get(), FSMOUNT_CLOEXEC, 0));
  const auto open_file = [&](int flags) {
    return Fd(::openat(mount.get(), "file", flags | O_CLOEXEC, 0600));
  };
  ASSERT_EQ(::ftruncate(open_file(O_RDWR | O_CREAT).get(), 4096), 0);
  mount_attr change{};
  change.attr_set = MOUNT_ATTR_RDONLY;
  ASSERT_EQ(::mount_setattr(mount.get(), "", AT_EMPTY_PATH, &change, sizeof change), 0);
  try {
    broker.connect().clone(open_file(O_RDONLY).get(), Access::read_only);
    ADD_FAILURE() << "cloned";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::unsupported) << error.what();
    EXPECT_THAT(error.what(), testing::HasSubstr("mounted read-only"));
  }
  std::swap(change.attr_set, change.attr_clr);
  ASSERT_EQ(::mount_setattr(mount.get(), "", AT_EMPTY_PATH, &change, sizeof change), 0);
  EXPECT_GE(broker.connect().clone(open_file(O_RDONLY).get(), Access::read_only).fd(), 0);
}

TEST_F(PassedFileTest, AFileThatMayStillBeSealedIsNotClonedForWriting) {
  const int fd = ::memfd_create("passed", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  ASSERT_EQ(::ftruncate(fd, 4096), 0);
  Client client = broker.connect();
  try {
    const Grant writable = client.clone(fd, Access::read_write);
    // What would follow: the seal is accepted, and the clone writes all the same.
    ADD_FAILURE() << "cloned for writing; then sealed: " << ::fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::denied) << error.what();
  }
  EXPECT_GE(client.clone(fd, Access::read_only).fd(), 0);
  ASSERT_EQ(::fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL), 0);
  EXPECT_GE(client.clone(fd, Access::read_write).fd(), 0);
  ::close(fd);
}

TEST_F(PassedFileTest, SomebodyElsesProgramIsNotClonedSinceNobodyCouldRunItMeanwhile) {  // Promise 12
  std::string path = "/var/tmp/mapcap-program.XXXXXX";
  const Fd program(::mkstemp(path.data()));
  ASSERT_EQ(::ftruncate(program.get(), 4096), 0);
  ASSERT_EQ(::fchmod(program.get(), 0755), 0);
  auto clone_as = [&](uid_t uid) {
    return as_user(uid, [&] {
      const Fd mine(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
      try {
        broker.connect().clone(mine.get(), Access::read_only);
      } catch (const Error& error) {
        return error.code() == ErrorCode::denied ? 1 : 2;
      }
      return 0;
    });
  };
  EXPECT_EQ(clone_as(kAttacker), 1);
  EXPECT_EQ(clone_as(0), 0) << "its owner could open it for writing anyway";
  ASSERT_EQ(::fchmod(program.get(), 0644), 0);
  EXPECT_EQ(clone_as(kAttacker), 0) << "no program any more";
  ::unlink(path.c_str());
}

TEST_F(PassedFileTest, ALeaseOnThePassedFileHoldsNobodyUp) {  // Promise 12
  std::signal(SIGIO, SIG_IGN);  // It asks the lease's holder to give it up, who does not listen.
  std::string path = "/dev/shm/mapcap-leased.XXXXXX";
  ::close(::mkstemp(path.data()));
  ASSERT_EQ(::truncate(path.c_str(), 4096), 0);
  const Fd leased(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  ::unlink(path.c_str());
  ASSERT_EQ(::fcntl(leased.get(), F_SETLEASE, F_RDLCK), 0);
  Client client = broker.connect();
  try {
    client.clone(leased.get(), Access::read_only);
    ADD_FAILURE() << "cloned, although the lease forbids to open the file for writing";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::busy) << error.what();
  }
  expect_service();
  ASSERT_EQ(::fcntl(leased.get(), F_SETLEASE, F_UNLCK), 0);
  const Grant grant = client.clone(leased.get(), Access::read_only);
  EXPECT_EQ(::fcntl(grant.fd(), F_GETFL) & O_NONBLOCK, 0);
}

}  // namespace
}  // namespace mapcap::test
