// What a revoke takes from request to return, beside the bare system call on the same memory in the same run:
// 1 GiB, every page touched, mapped by eight processes.
//
//     revocable    ftruncate to 0
//     sealed       fallocate, punching it all out
//
//     revoke_bench [ROUNDS [MIB]]      default 5 rounds of 1024 MiB; medians
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <vector>

#include "tests/support/broker_process.h"

namespace mapcap::test {
namespace {

constexpr int kMappers = 8;
constexpr std::uint64_t kPage = 4096;

using Clock = std::chrono::steady_clock;

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values.at(values.size() / 2);
}

void touch(std::byte* bytes, std::uint64_t size) {
  for (std::uint64_t at = 0; at < size; at += kPage) bytes[at] = std::byte{1};
}

/// Eight children that have mapped and touched it all. `map` runs in each of them.
class Mappers {
 public:
  explicit Mappers(const std::function<void()>& map) {
    std::array<int, 2> ready{};
    if (::pipe2(ready.data(), O_CLOEXEC) != 0) std::abort();
    for (pid_t& child : children_) {
      child = ::fork();
      if (child != 0) continue;
      ::signal(SIGBUS, SIG_DFL);
      try {
        map();
        (void)!::write(ready[1], "x", 1);
        for (;;) ::pause();
      } catch (const std::exception& error) {
        std::fprintf(stderr, "mapper: %s\n", error.what());
      }
      ::_exit(1);
    }
    char byte = 0;
    for (int i = 0; i < kMappers; ++i) {
      if (::read(ready[0], &byte, 1) != 1) std::abort();
    }
    ::close(ready[0]);
    ::close(ready[1]);
  }
  Mappers(const Mappers&) = delete;
  Mappers& operator=(const Mappers&) = delete;
  ~Mappers() {
    for (const pid_t child : children_) ::kill(child, SIGKILL);
    for (const pid_t child : children_) ::waitpid(child, nullptr, 0);
  }

 private:
  std::array<pid_t, kMappers> children_{};
};

template <typename Work>
double milliseconds(Work work) {
  const auto begin = Clock::now();
  work();
  return std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
}

double floor_once(SealKind seal, std::uint64_t size) {
  const int fd = ::memfd_create("floor", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  const int seals = F_SEAL_GROW | (seal == SealKind::sealed ? F_SEAL_SHRINK : 0);
  if (::ftruncate(fd, static_cast<off_t>(size)) != 0 || ::fcntl(fd, F_ADD_SEALS, seals) != 0) std::abort();
  double took = 0;
  {
    const Mappers mappers([&] {
      void* mapped = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
      if (mapped == MAP_FAILED) std::abort();
      touch(static_cast<std::byte*>(mapped), size);
    });
    took = milliseconds([&] {
      const int done = seal == SealKind::sealed ? ::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                                              0, static_cast<off_t>(size))
                                                : ::ftruncate(fd, 0);
      if (done != 0) std::abort();
    });
  }
  ::close(fd);
  return took;
}

double revoke_once(const BrokerProcess& broker, SealKind seal, std::uint64_t size) {
  Client client = broker.connect();
  RegionSpec wanted;
  wanted.name = "bench/revoked";
  wanted.size = size;
  wanted.seal = seal;
  wanted.lifetime = Lifetime::persistent();
  client.create(wanted);
  const Mappers mappers([&] {
    static std::vector<Mapping> kept;  // The child never returns from here.
    Client own = broker.connect();
    kept.emplace_back(own.open("bench/revoked", Access::read_write));
    touch(kept.back().writable().data(), size);
  });
  return milliseconds([&] { client.revoke("bench/revoked"); });
}

void wait_until_empty(const BrokerProcess& broker) {
  Client client = broker.connect();
  while (client.pools().front().used != 0) ::usleep(1000);
}

int run(int rounds, std::uint64_t size) {
  BrokerProcess broker(open_policy("", "seals = [\"sealed\", \"revocable\"]\n"));
  broker.start();
  std::printf("%d mappers of %llu MiB, every page touched; medians of %d rounds, in ms\n", kMappers,
              static_cast<unsigned long long>(size >> 20U), rounds);
  std::printf("%-10s %10s %10s %7s\n", "seal", "bare", "revoke", "ratio");
  for (const SealKind seal : {SealKind::revocable, SealKind::sealed}) {
    std::vector<double> bare;
    std::vector<double> revoke;
    for (int round = 0; round < rounds; ++round) {
      bare.push_back(floor_once(seal, size));
      revoke.push_back(revoke_once(broker, seal, size));
      wait_until_empty(broker);
    }
    std::printf("%-10s %10.1f %10.1f %7.2f\n", seal == SealKind::sealed ? "sealed" : "revocable",
                median(bare), median(revoke), median(revoke) / median(bare));
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace
}  // namespace mapcap::test

int main(int argc, char** argv) {
  try {
    return mapcap::test::run(argc > 1 ? std::atoi(argv[1]) : 5,
                             (argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1024) << 20U);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "revoke_bench: %s\n", error.what());
    return 1;
  }
}
