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
  std::uint64_t p99_refused = 0;  ///< Calls of the flood that were answered during one issue.
};

class KeeperFlood : public KeeperTest {
 protected:
  static Task<Percentiles> measure_issuing(Loop& loop, Keeper& keeper, Access rights,
                                           const Flood* flood = nullptr) {
    constexpr std::size_t kSamples = 300;
    const auto refused = [flood] { return flood != nullptr ? flood->refused() : 0; };
    std::vector<double> samples;
    std::vector<std::uint64_t> overtaken;
    while (samples.size() < kSamples) {
      const auto begin = std::chrono::steady_clock::now();
      const std::uint64_t before = refused();
      auto issued = co_await keeper.clone().issue(RegionId{1}, label(kSize, rights));
      if (!issued) {
        ADD_FAILURE() << issued.error().sentence;
        co_return Percentiles{};
      }
      samples.push_back(Microseconds(std::chrono::steady_clock::now() - begin).count());
      overtaken.push_back(refused() - before);
      issued.value().fd.reset();
      co_await loop.yield();
    }
    std::sort(samples.begin(), samples.end());
    std::sort(overtaken.begin(), overtaken.end());
    co_return Percentiles{samples.at(kSamples / 2), samples.at(kSamples * 99 / 100),
                          overtaken.at(kSamples * 99 / 100)};
  }
};

TEST_F(KeeperFlood, EightFloodersAreHeldToTheirRateAndIssuingGoesOn) {
  REQUIRE_CLONES();
  drive([&](Loop& loop) -> Task<void> {
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
    EXPECT_TRUE(co_await eventually(loop, [&] { return flood.refused() > Throttle::kBurst; }));
    const Percentiles flooded = co_await measure_issuing(loop, *keeper, Access::read_write, &flood);
    const Percentiles flooded_ro = co_await measure_issuing(loop, *keeper, Access::read_only, &flood);
    const auto refused = static_cast<double>(flood.refused());
    const std::chrono::duration<double> lasted = std::chrono::steady_clock::now() - begin;
    std::printf("issue rw: p50 %.0f us, p99 %.0f us; under flood: p50 %.0f us, p99 %.0f us\n", calm.p50,
                calm.p99, flooded.p50, flooded.p99);
    std::printf("issue ro: p50 %.0f us, p99 %.0f us; under flood: p50 %.0f us, p99 %.0f us\n", calm_ro.p50,
                calm_ro.p99, flooded_ro.p50, flooded_ro.p99);
    std::printf("refused calls of one uid: %.0f a second\n", refused / lasted.count());
    // The law of the token bucket. Without it eight flooders make some 70,000 a second on two idle CPUs.
    constexpr double slack = Throttle::kRate * 0.1;
    EXPECT_LE(refused, Throttle::kBurst + Throttle::kRate * lasted.count() + slack);
    // Nothing is starved: the flood has no more of the keeper meanwhile than two seconds of its rate.
    EXPECT_LT(flooded.p99_refused, 2 * Throttle::kRate);

    // Promise 9: a killed flooder goes, although its answer is being held back.
    for (const pid_t pid : flood.pids()) ::kill(pid, SIGKILL);
    for (const pid_t pid : flood.pids())
      EXPECT_TRUE(comes_true([pid] { return ::waitpid(pid, nullptr, WNOHANG) == pid; }));
    keeper->shut_down();
  });
}

}  // namespace
}  // namespace mapcap::test
