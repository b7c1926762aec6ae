// Promise 12: a holder who floods the keeper with refused calls waits for itself, not for others.
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "broker/keeper/fuse/throttle.h"
#include "tests/support/keeper_harness.h"

namespace mapcap::test {
namespace {

constexpr ByteCount kSize{8192};
using broker::keeper::Throttle;
constexpr int kFlooders = 8;
using Microseconds = std::chrono::duration<double, std::micro>;

/// Processes of an unprivileged uid that read from a grant as fast as they are refused, and count in shared
/// memory.
class Flood {
 public:
  explicit Flood(BorrowedFd grant) {
    counts_ = static_cast<std::uint64_t*>(
        ::mmap(nullptr, kPageSize, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    EXPECT_NE(counts_, MAP_FAILED);
    for (int i = 0; i < kFlooders; ++i) {
      const pid_t pid = ::fork();
      if (pid == 0) {
        if (::setgid(65534) != 0 || ::setuid(65534) != 0) ::_exit(1);
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // A flood must not outlive a test that fails.
        char byte = 0;
        volatile std::uint64_t* count = counts_ + i;
        while (::read(grant.get(), &byte, 1) == -1 && errno == EPERM) *count = *count + 1;
        ::_exit(2);
      }
      pids_.push_back(pid);
    }
  }
  ~Flood() {
    for (const pid_t pid : pids_) ::kill(pid, SIGKILL);
    for (const pid_t pid : pids_) ::waitpid(pid, nullptr, 0);
    ::munmap(counts_, kPageSize);
  }
  Flood(const Flood&) = delete;
  Flood& operator=(const Flood&) = delete;

  [[nodiscard]] std::uint64_t refused() const {
    std::uint64_t sum = 0;
    for (int i = 0; i < kFlooders; ++i) sum += *const_cast<volatile std::uint64_t*>(counts_ + i);
    return sum;
  }
  [[nodiscard]] const std::vector<pid_t>& pids() const { return pids_; }

 private:
  std::vector<pid_t> pids_;
  std::uint64_t* counts_ = nullptr;
};

struct Percentiles {
  double p50 = 0;
  double p99 = 0;
};

class KeeperFlood : public KeeperTest {
 protected:
  static Task<Percentiles> measure_issuing(Loop& loop, Keeper& keeper, Access rights) {
    constexpr int kSamples = 300;
    std::vector<double> samples;
    for (int i = 0; i < kSamples; ++i) {
      const auto begin = std::chrono::steady_clock::now();
      auto issued = co_await keeper.clone().issue(RegionId{1}, label(kSize, rights));
      if (!issued) {
        ADD_FAILURE() << issued.error().sentence;
        break;
      }
      samples.push_back(Microseconds(std::chrono::steady_clock::now() - begin).count());
      issued.value().fd.reset();
      co_await loop.yield();
    }
    std::sort(samples.begin(), samples.end());
    co_return Percentiles{samples.at(samples.size() / 2), samples.at(samples.size() * 99 / 100)};
  }
};

TEST_F(KeeperFlood, EightFloodersAreHeldToTheirRateAndIssuingGoesOn) {
  REQUIRE_CLONES();
  drive(
      [&](Loop& loop) -> Task<void> {
        auto keeper = start();
        CO_ASSERT(keeper != nullptr);
        keeper->attach(loop);
        const Fd fd = memory(kSize);
        CO_ASSERT(keeper->clone().attach(RegionId{1}, fd.borrow(), kSize));
        auto grant = co_await keeper->clone().issue(RegionId{1}, label(kSize, Access::read_write));
        CO_ASSERT(grant);

        const Percentiles calm = co_await measure_issuing(loop, *keeper, Access::read_write);
        const Percentiles calm_ro = co_await measure_issuing(loop, *keeper, Access::read_only);
        const auto begin = std::chrono::steady_clock::now();
        const Flood flood(grant.value().fd.borrow());
        co_await loop.sleep(std::chrono::milliseconds(1000));  // Past the burst.
        const Percentiles flooded = co_await measure_issuing(loop, *keeper, Access::read_write);
        const Percentiles flooded_ro = co_await measure_issuing(loop, *keeper, Access::read_only);
        const auto refused = static_cast<double>(flood.refused());
        const std::chrono::duration<double> lasted = std::chrono::steady_clock::now() - begin;
        std::printf("issue rw: p50 %.0f us, p99 %.0f us; under flood: p50 %.0f us, p99 %.0f us\n", calm.p50,
                    calm.p99, flooded.p50, flooded.p99);
        std::printf("issue ro: p50 %.0f us, p99 %.0f us; under flood: p50 %.0f us, p99 %.0f us\n",
                    calm_ro.p50, calm_ro.p99, flooded_ro.p50, flooded_ro.p99);
        std::printf("refused calls of one uid: %.0f a second\n", refused / lasted.count());
        // The law of the token bucket. Without it eight flooders make some 70,000 a second on two idle CPUs.
        constexpr double slack = Throttle::kRate * 0.1;
        EXPECT_LE(refused, Throttle::kBurst + Throttle::kRate * lasted.count() + slack);
        // Below the deadline, or there would be fewer samples: nothing is starved.
        EXPECT_LT(flooded.p99, 2'000'000);

        // Promise 9: a killed flooder is gone at once, although its answer is being held back.
        const auto killed = std::chrono::steady_clock::now();
        for (const pid_t pid : flood.pids()) ::kill(pid, SIGKILL);
        for (const pid_t pid : flood.pids()) EXPECT_EQ(::waitpid(pid, nullptr, 0), pid);
        EXPECT_LT(std::chrono::steady_clock::now() - killed, std::chrono::seconds(10));
        keeper->shut_down();
      },
      std::chrono::seconds(90));
}

}  // namespace
}  // namespace mapcap::test
