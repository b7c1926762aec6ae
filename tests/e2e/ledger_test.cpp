// Promise 8 in the real broker: its ledger grows under the system-call filter, and an orderly end leaves
// nothing of it unwritten.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/magic.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <array>
#include <optional>

#include "tests/support/broker_process.h"

#ifndef SYS_cachestat
#define SYS_cachestat 451  // Linux 6.5
#endif

namespace mapcap::test {
namespace {

class LedgerTest : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root: it starts mapcapd";
  }
  static void create(Client& client, const std::string& name) {
    RegionSpec wanted;
    wanted.name = name;
    wanted.size = 4096;
    wanted.lifetime = Lifetime::persistent();
    client.create(wanted);
  }
};

TEST_F(LedgerTest, GrowsWhileTheBrokerServes) {
  BrokerProcess broker(open_policy("[[quota]]\nuser = 0\nregions = 100000\n"));
  broker.start();
  const pid_t pid = broker.pid();
  Client client = broker.connect();
  // The first ledger has 4096 slots, and grows when seven eighths are in use.
  constexpr int kRegions = 4500;
  for (int i = 0; i < kRegions; ++i) create(client, "root/region-" + std::to_string(i));
  EXPECT_EQ(client.list().size(), static_cast<std::size_t>(kRegions));
  EXPECT_EQ(::kill(pid, 0), 0) << broker.log();
  broker.kill_broker();
  broker.start();
  EXPECT_EQ(client.list().size(), static_cast<std::size_t>(kRegions));
}

/// Pages of the file that are not written yet. Empty: the kernel cannot tell (before 6.5), or the filesystem
/// keeps no other copy.
std::optional<std::uint64_t> unwritten_pages(const std::string& path) {
  struct statfs filesystem {};
  if (::statfs(path.c_str(), &filesystem) != 0 || filesystem.f_type == TMPFS_MAGIC) return std::nullopt;
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  std::array<std::uint64_t, 2> range{0, 0};  // To the end.
  struct {
    std::uint64_t cached, dirty, writeback, evicted, recently_evicted;
  } pages{};
  const long asked = ::syscall(SYS_cachestat, fd, range.data(), &pages, 0);
  ::close(fd);
  if (asked != 0) return std::nullopt;
  return pages.dirty + pages.writeback;
}

TEST_F(LedgerTest, AnOrderlyEndLeavesNothingUnwritten) {
  BrokerProcess broker;
  broker.start();
  const std::string path = broker.state() + "/ledger";
  Client client = broker.connect();
  create(client,
         "root/volatile");  // At process strength: in the page cache, for the kernel to write some day.
  EXPECT_EQ(broker.terminate(), 0) << broker.log();
  const std::optional<std::uint64_t> unwritten = unwritten_pages(path);
  if (!unwritten) GTEST_SKIP() << "the kernel does not tell which pages of " << path << " are written";
  EXPECT_EQ(*unwritten, 0U);
}

}  // namespace
}  // namespace mapcap::test
