// Pages that a holder keeps without a mapping: in a pipe (vmsplice) and as an io_uring's fixed buffer. The
// kernel tells nobody of them, so the charge ends with the last mapping all the same (README, Limits). What
// must hold is that they are cut off (promise 5) and that nobody else ever gets them (promise 6).
#include <fcntl.h>
#include <gtest/gtest.h>
#include <liburing.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "tests/support/backends.h"
#include "tests/support/broker_process.h"

namespace mapcap::test {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kSize = 2U << 20U;  // The granule of huge pages.
constexpr std::size_t kPinned = 65536;      // As much as a pipe holds.
constexpr char kOld = '\x5a';
constexpr char kLate = '\x33';
constexpr char kTheirs = '\x77';

/// kPinned bytes of somebody's memory, kept in two ways.
class Pins {
 public:
  explicit Pins(char* bytes) {
    const iovec pages{bytes, kPinned};
    spliced_ = ::pipe2(ends_.data(), O_CLOEXEC) == 0 && ::vmsplice(ends_[1], &pages, 1, 0) == kPinned;
    fixed_ = io_uring_queue_init(4, &ring_, 0) == 0 && io_uring_register_buffers(&ring_, &pages, 1) == 0;
    bytes_ = bytes;
    file_ = ::memfd_create("outside", MFD_CLOEXEC);
  }
  ~Pins() {
    io_uring_queue_exit(&ring_);
    for (const int fd : {ends_[0], ends_[1], file_}) ::close(fd);
  }
  Pins(const Pins&) = delete;
  Pins& operator=(const Pins&) = delete;

  [[nodiscard]] bool spliced() const { return spliced_; }
  [[nodiscard]] bool fixed() const { return fixed_; }

  /// Stores to the fixed buffer, which is mapped nowhere any more.
  [[nodiscard]] bool store(char byte) {
    const std::vector<char> wanted(kPinned, byte);
    if (::pwrite(file_, wanted.data(), kPinned, 0) != kPinned) return false;
    io_uring_sqe* request = io_uring_get_sqe(&ring_);
    io_uring_prep_read_fixed(request, file_, bytes_, kPinned, 0, 0);
    return run() == kPinned;
  }
  /// What the fixed buffer has.
  [[nodiscard]] std::vector<char> load() {
    io_uring_sqe* request = io_uring_get_sqe(&ring_);
    io_uring_prep_write_fixed(request, file_, bytes_, kPinned, 0, 0);
    if (run() != kPinned) return {};
    std::vector<char> seen(kPinned);
    return ::pread(file_, seen.data(), kPinned, 0) == kPinned ? seen : std::vector<char>{};
  }
  /// What the pipe has.
  [[nodiscard]] std::vector<char> drain() const {
    std::vector<char> seen(kPinned);
    return ::read(ends_[0], seen.data(), kPinned) == kPinned ? seen : std::vector<char>{};
  }

 private:
  int run() {
    io_uring_cqe* completion = nullptr;
    if (io_uring_submit_and_wait(&ring_, 1) != 1 || io_uring_wait_cqe(&ring_, &completion) != 0) return -1;
    const int result = completion->res;
    io_uring_cqe_seen(&ring_, completion);
    return result;
  }
  std::array<int, 2> ends_{-1, -1};
  io_uring ring_{};
  char* bytes_ = nullptr;
  int file_ = -1;
  bool spliced_ = false;
  bool fixed_ = false;
};

bool all(const char* bytes, std::uint64_t count, char byte) {
  return std::all_of(bytes, bytes + count, [byte](char one) { return one == byte; });
}
bool none(const std::vector<char>& bytes, char byte) {
  return !bytes.empty() && std::find(bytes.begin(), bytes.end(), byte) == bytes.end();
}

class PinTest : public testing::TestWithParam<Backend> {
 protected:
  void SetUp() override {
    if (const std::string missing = what_lacks(GetParam()); !missing.empty()) GTEST_SKIP() << missing;
    scratch_ = std::make_unique<BackendScratch>(GetParam());
    broker_ = std::make_unique<BrokerProcess>(scratch_->policy("64M"));
    broker_->start();
  }

  static char* map(const Grant& grant) {
    void* at = ::mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_SHARED, grant.fd(), 0);
    return at == MAP_FAILED ? nullptr : static_cast<char*>(at);
  }
  static Grant create(Client& client, const std::string& name) {
    RegionSpec wanted;
    wanted.name = name;
    wanted.size = kSize;
    wanted.seal = seal_of(GetParam());
    wanted.lifetime = Lifetime::persistent();
    return client.create(wanted, Access::read_write);
  }

  std::unique_ptr<BackendScratch> scratch_;
  std::unique_ptr<BrokerProcess> broker_;
};

TEST_P(PinTest, PinnedPagesAreCutOffByARevokeAndReachNobodyElse) {
  Client client = broker_->connect();
  std::optional<Grant> grant(create(client, "root/old"));
  char* mine = map(*grant);
  ASSERT_NE(mine, nullptr);
  std::fill(mine, mine + kSize, kOld);
  Pins pins(mine);
  if (!pins.spliced() && !pins.fixed()) GTEST_SKIP() << "the kernel pins no pages of this kind of memory";
  // Another holder, who keeps his mapping.
  const Mapping watcher(client.open("root/old", Access::read_only));
  ::munmap(mine, kSize);
  grant.reset();
  client.revoke("root/old");

  std::array<std::byte, 4096> seen{};
  auto expect_cut = [&](const char* when) {
    if (seal_of(GetParam()) == SealKind::revocable) {
      EXPECT_EQ(try_read(watcher, 0, seen), Touch::revoked) << when;
      return;
    }
    EXPECT_EQ(try_read(watcher, 0, seen), Touch::done) << when;
    EXPECT_TRUE(std::all_of(seen.begin(), seen.end(), [](std::byte one) { return one == std::byte{0}; }))
        << when;
  };
  expect_cut("after the revoke");
  if (pins.fixed()) {
    ASSERT_TRUE(pins.store(kLate));
    expect_cut("after a store to a pinned page");
  }

  const Grant next = create(client, "root/next");
  char* theirs = map(next);
  ASSERT_NE(theirs, nullptr);
  EXPECT_TRUE(all(theirs, kSize, 0)) << "a fresh region reads as zeros";
  std::fill(theirs, theirs + kSize, kTheirs);
  if (pins.fixed()) {
    EXPECT_TRUE(none(pins.load(), kTheirs)) << "the next tenant's stores are seen";
    ASSERT_TRUE(pins.store(kLate));
  }
  if (pins.spliced()) {
    EXPECT_TRUE(none(pins.drain(), kTheirs)) << "the next tenant's stores are seen";
  }
  EXPECT_TRUE(all(theirs, kSize, kTheirs)) << "a store to a pinned page reached the next tenant";
  ::munmap(theirs, kSize);
}

std::string name_of(const testing::TestParamInfo<Backend>& info) {
  return to_string(info.param);
}
INSTANTIATE_TEST_SUITE_P(Backends, PinTest, testing::ValuesIn(kBackends), name_of);

}  // namespace
}  // namespace mapcap::test
