// Files that clients pass to be cloned: what they may do to the broker, and to those who trust their seals.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <thread>
#include <vector>

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

}  // namespace
}  // namespace mapcap::test
