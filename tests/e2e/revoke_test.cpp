// Promise 5: when revoke returns, no holder reads or writes the region's contents any more. Eight processes
// read and write a fully touched region in a loop; each publishes, in memory of the test's own, what it saw
// last and when.
//
// The proof. The test stamps the region with a secret before the revoke, and raises `revoked` after it has
// returned. A holder samples `revoked` BEFORE it touches the region: a touch that begins after the flag was
// raised and still shows the secret, or a store that begins then and that a fresh reader finds, breaks the
// promise.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <new>
#include <thread>

#include "tests/support/broker_process.h"
#include "tests/support/patience.h"

namespace mapcap::test {
namespace {

using namespace std::chrono_literals;

#ifdef MAPCAP_SANITIZED
constexpr std::uint64_t kSize = 128U << 20U;  // Sanitizers make touching slow, not different.
#else
constexpr std::uint64_t kSize = 1U << 30U;
#endif
constexpr std::uint64_t kStride = 4096;
constexpr std::uint64_t kSecret = 0x5ec2e7;
constexpr int kHolders = 8;

struct Holder {
  std::atomic<std::uint64_t> touches{0};
  std::atomic<std::uint64_t> after{0};  // Touches that began after the revoke had returned.
  std::atomic<std::uint64_t> leaks{0};  // Of those: the secret was still there.
  std::atomic<bool> faulted{false};
  std::atomic<bool> ready{false};
};

struct Shared {
  std::atomic<bool> revoked{false};
  std::atomic<bool> stop{false};
  std::array<Holder, kHolders> holders;
};

enum class Kind { plain, locked, pinned, forked, passed };

class RevokeTest : public testing::TestWithParam<SealKind> {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root: it starts mapcapd";
    void* memory = ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    shared_ = new (memory) Shared;
    broker_.start();
  }
  void TearDown() override {
    for (const pid_t child : children_) {
      ::kill(child, SIGKILL);
      ::waitpid(child, nullptr, 0);
    }
    if (shared_ != nullptr) ::munmap(shared_, sizeof(Shared));
  }

  /// Reads and writes all over the mapping until told to stop or until it faults.
  void touch_all(Mapping& mapping, Holder& mine) {
    const auto pages = mapping.writable();
    std::uint64_t at = 0;
    volatile bool leaked = false;
    volatile bool late = false;
    mine.ready = true;
    while (!shared_->stop) {
      late = shared_->revoked.load();
      auto touch = [&]() noexcept {
        auto* word = reinterpret_cast<volatile std::uint64_t*>(pages.data() + at);
        leaked = *word == kSecret;
        // The second word of each page is the holder's to scribble on.
        word[1] = word[1] + 1;
      };
      if (guarded(pages, touch) == Touch::revoked) {
        mine.faulted = true;
        return;
      }
      ++mine.touches;
      if (late) {
        ++mine.after;
        if (leaked) ++mine.leaks;
      }
      at = (at + kStride) % kSize;
    }
  }

  void start_holder(int number, Kind kind) {
    const pid_t child = ::fork();
    if (child != 0) {
      children_.push_back(child);
      return;
    }
    try {
      Client client = broker_.connect();
      Grant grant = client.open("root/big", Access::read_write);
      if (kind == Kind::passed) grant = hand_to_stranger(std::move(grant));
      Mapping mapping(grant);
      if (kind == Kind::locked) (void)::mlock(mapping.bytes().data(), 8U << 20U);
      std::array<int, 2> ends{-1, -1};
      if (kind == Kind::pinned && ::pipe2(ends.data(), O_CLOEXEC) == 0) {
        const iovec pages{mapping.writable().data(), 65536};
        if (::vmsplice(ends[1], &pages, 1, 0) < 0) ::_exit(3);
      }
      // The child inherits the mapping and goes on with it in its parent's place.
      if (kind == Kind::forked) {
        const pid_t heir = ::fork();
        if (heir != 0) {
          int status = 0;
          ::waitpid(heir, &status, 0);
          ::_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 5);
        }
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      }
      touch_all(mapping, shared_->holders.at(static_cast<std::size_t>(number)));
      ::_exit(0);
    } catch (const std::exception& error) {
      std::fprintf(stderr, "holder %d: %s\n", number, error.what());
      ::_exit(1);
    }
  }

  /// Passes the grant through a socket, as to a process that the broker never saw.
  static Grant hand_to_stranger(Grant grant) {
    std::array<int, 2> ends{};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) ::_exit(4);
    grant.send(ends[0]);
    return Grant::receive(ends[1]);
  }

  Shared* shared_ = nullptr;
  std::vector<pid_t> children_;
  BrokerProcess broker_;
};

TEST_P(RevokeTest, NoByteIsSeenOrStoredOnceRevokeHasReturned) {
  Client client = broker_.connect();
  RegionSpec wanted;
  wanted.name = "root/big";
  wanted.size = kSize;
  wanted.seal = GetParam();
  wanted.lifetime = Lifetime::persistent();
  Grant grant = client.create(wanted, Access::read_write);
  Mapping mapping(grant);
  for (std::uint64_t at = 0; at < kSize; at += kStride) *mapping.writable_at<std::uint64_t>(at) = kSecret;

  constexpr std::array<Kind, kHolders> kKinds{Kind::plain,  Kind::plain,  Kind::plain,  Kind::locked,
                                              Kind::pinned, Kind::forked, Kind::passed, Kind::plain};
  for (int number = 0; number < kHolders; ++number)
    start_holder(number, kKinds.at(static_cast<std::size_t>(number)));
  for (const Holder& holder : shared_->holders) {
    ASSERT_TRUE(comes_true([&] { return holder.ready && holder.touches > 0; }))
        << "a holder never got to its mapping";
  }

  client.revoke("root/big", {});
  shared_->revoked = true;
  for (const Holder& holder : shared_->holders)
    EXPECT_TRUE(comes_true([&] { return holder.faulted || holder.after > 0; })) << "a holder does nothing";
  std::this_thread::sleep_for(500ms);  // And more of that.
  shared_->stop = true;
  for (const pid_t child : children_) {
    int status = 0;
    ::waitpid(child, &status, 0);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "a holder died: " << status;
  }
  children_.clear();

  for (const Holder& holder : shared_->holders) {
    EXPECT_EQ(holder.leaks, 0U);
    if (GetParam() == SealKind::revocable) {
      EXPECT_TRUE(holder.faulted) << "a mapping of a revoked region still works";
    } else {
      EXPECT_FALSE(holder.faulted) << "a sealed mapping faulted (promise 4)";
      EXPECT_GT(holder.after, 0U) << "nobody touched the region after the revoke: the test shows nothing";
    }
  }
  // What sealed holders stored afterwards reaches nobody: the name's next region is another inode.
  const Mapping next(client.create(wanted, Access::read_only));
  for (std::uint64_t at = 0; at < kSize; at += kStride * 64) {
    ASSERT_EQ(*next.at<std::uint64_t>(at), 0U);
    ASSERT_EQ(*next.at<std::uint64_t>(at + 8), 0U);
  }
}

INSTANTIATE_TEST_SUITE_P(Sealed, RevokeTest, testing::Values(SealKind::sealed));
INSTANTIATE_TEST_SUITE_P(Revocable, RevokeTest, testing::Values(SealKind::revocable));

}  // namespace
}  // namespace mapcap::test
