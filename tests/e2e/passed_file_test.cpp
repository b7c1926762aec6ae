// Files that clients pass to be cloned: what they may do to the broker, and to those who trust their seals.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
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

TEST_F(PassedFileTest, AFileOnAReadOnlyMountIsClonedForReading) {
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
  const Mapping mapping(broker.connect().clone(open_file(O_RDONLY).get(), Access::read_only));
  EXPECT_EQ(mapping.bytes()[4095], std::byte{0});
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

/// Whoever may read a file may map it; whoever is asked for that must not open it for writing meanwhile.
class ReadOnlyCloneTest : public PassedFileTest {
 protected:
  void SetUp() override {
    PassedFileTest::SetUp();
    ASSERT_TRUE(
        std::filesystem::copy_file("/bin/true", program, std::filesystem::copy_options::overwrite_existing));
    ASSERT_EQ(::chmod(program.c_str(), 0755), 0);
  }
  void TearDown() override {
    ::unlink(program.c_str());
    PassedFileTest::TearDown();
  }
  /// As somebody who may only read it.
  [[nodiscard]] int clone_by_a_stranger(int times) {
    return as_user(kAttacker, [&] {
      Client client = broker.connect();
      for (int i = 0; i < times; ++i) {
        const Fd file(::open(program.c_str(), O_RDONLY | O_CLOEXEC));
        const Mapping mapping(client.clone(file.get(), Access::read_only));
        if (mapping.bytes()[1] != std::byte{'E'}) return 1;  // Of "\x7fELF".
      }
      return 0;
    });
  }

  std::string program = "/var/tmp/mapcap-program." + std::to_string(::getpid());
};

TEST_F(ReadOnlyCloneTest, AProgramRunsWhileStrangersCloneIt) {  // Promise 12
  std::atomic<bool> more = true;
  std::thread cloning([&] {
    while (more) EXPECT_EQ(clone_by_a_stranger(20), 0);
  });
  for (int i = 0; i < 200; ++i) EXPECT_EQ(run_command({program}).status, 0) << "run " << i;
  more = false;
  cloning.join();
}

TEST_F(ReadOnlyCloneTest, ItsOwnersReadLeaseStaysAndNobodyIsToldOfAWrite) {
  std::signal(SIGIO, SIG_IGN);  // What a broken lease would send.
  const Fd owner(::open(program.c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_EQ(::fcntl(owner.get(), F_SETLEASE, F_RDLCK), 0);
  const Fd watch(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  ASSERT_GE(::inotify_add_watch(watch.get(), program.c_str(), IN_CLOSE_WRITE | IN_MODIFY | IN_ATTRIB), 0);
  EXPECT_EQ(clone_by_a_stranger(20), 0);
  EXPECT_EQ(::fcntl(owner.get(), F_GETLEASE), F_RDLCK);
  std::array<char, 4096> events{};
  EXPECT_EQ(::read(watch.get(), events.data(), events.size()), -1) << "something was told";
  ASSERT_EQ(::fcntl(owner.get(), F_SETLEASE, F_UNLCK), 0);
}

TEST_F(PassedFileTest, AFileThatGrowsIsMappedAsFarAsItReachesAndToldAsItWas) {
  const Fd file(::memfd_create("grows", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(file.get(), 4096), 0);
  const Grant grant = broker.connect().clone(file.get(), Access::read_only);
  ASSERT_EQ(::ftruncate(file.get(), 8192), 0);
  ASSERT_EQ(::pwrite(file.get(), "x", 1, 4096), 1);
  struct stat status {};
  ASSERT_EQ(::fstat(grant.fd(), &status), 0);
  EXPECT_EQ(status.st_size, 4096);
  EXPECT_EQ(grant.size(), 4096U);
  void* const mapped = ::mmap(nullptr, 8192, PROT_READ, MAP_SHARED, grant.fd(), 0);
  ASSERT_NE(mapped, MAP_FAILED);
  EXPECT_EQ(static_cast<const char*>(mapped)[4096], 'x');
  ::munmap(mapped, 8192);
}

TEST_F(PassedFileTest, AReadLeaseOnThePassedFileIsNoObstacle) {  // Promise 12
  std::signal(SIGIO, SIG_IGN);  // It asks the lease's holder to give it up, who does not listen.
  std::string path = "/dev/shm/mapcap-leased.XXXXXX";
  ::close(::mkstemp(path.data()));
  ASSERT_EQ(::truncate(path.c_str(), 4096), 0);
  const Fd leased(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  ::unlink(path.c_str());
  ASSERT_EQ(::fcntl(leased.get(), F_SETLEASE, F_RDLCK), 0);
  Client client = broker.connect();
  const Grant grant = client.clone(leased.get(), Access::read_only);
  EXPECT_EQ(::fcntl(grant.fd(), F_GETFL) & O_NONBLOCK, 0);
  EXPECT_EQ(::fcntl(leased.get(), F_GETLEASE), F_RDLCK);
  expect_service();
}

}  // namespace
}  // namespace mapcap::test
