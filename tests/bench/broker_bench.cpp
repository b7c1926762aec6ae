// What a client waits for, beside what the kernel alone would take, in the same run:
//
//     create + grant + map      | memfd_create, ftruncate, seal, mmap, munmap, close
//     open + map                | reopen through /proc/self/fd, mmap
//     revoke of touched memory  | ftruncate to 0, or a hole punched, of the same amount of touched memory
//     list of N regions         | per region, from 1,000 to 100,000
//
// Pin it: taskset -c 0 broker_bench. Quote ratios of medians (--benchmark_repetitions=9).
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <memory>
#include <string>

#include "tests/support/broker_process.h"

namespace mapcap::test {
namespace {

constexpr std::uint64_t kSmall = 65536;

/// One broker for all benchmarks of this program.
BrokerProcess& broker() {
  static const std::unique_ptr<BrokerProcess> running = [] {
    auto started = std::make_unique<BrokerProcess>(open_policy("[[quota]]\nuser = 0\nregions = 2000000\n"));
    started->start();
    return started;
  }();
  return *running;
}

RegionSpec spec(const std::string& name, std::uint64_t size, SealKind seal = SealKind::sealed) {
  RegionSpec wanted;
  wanted.name = name;
  wanted.size = size;
  wanted.seal = seal;
  wanted.lifetime = Lifetime::persistent();
  return wanted;
}

int sealed_memfd(std::uint64_t size, int seals) {
  const int fd = ::memfd_create("floor", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (::ftruncate(fd, static_cast<off_t>(size)) != 0 || ::fcntl(fd, F_ADD_SEALS, seals) != 0) std::abort();
  return fd;
}

void CreateGrantMapFloor(benchmark::State& state) {
  for (auto _ : state) {
    const int fd = sealed_memfd(kSmall, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
    void* address = ::mmap(nullptr, kSmall, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    benchmark::DoNotOptimize(address);
    ::munmap(address, kSmall);
    ::close(fd);
  }
}
BENCHMARK(CreateGrantMapFloor)->Unit(benchmark::kMicrosecond);

void CreateGrantMap(benchmark::State& state) {
  Client client = broker().connect();
  for (auto _ : state) {
    {
      const Mapping mapping(client.create(spec("bench/small", kSmall), Access::read_write));
      benchmark::DoNotOptimize(mapping.size());
    }
    state.PauseTiming();
    client.revoke("bench/small");
    state.ResumeTiming();
  }
}
BENCHMARK(CreateGrantMap)->Unit(benchmark::kMicrosecond)->Iterations(2000);

void OpenMapFloor(benchmark::State& state) {
  const int fd = sealed_memfd(kSmall, F_SEAL_GROW);
  const std::string self = "/proc/self/fd/" + std::to_string(fd);
  for (auto _ : state) {
    const int fresh = ::open(self.c_str(), O_RDONLY | O_CLOEXEC);
    void* address = ::mmap(nullptr, kSmall, PROT_READ, MAP_SHARED, fresh, 0);
    ::munmap(address, kSmall);
    ::close(fresh);
  }
  ::close(fd);
}
BENCHMARK(OpenMapFloor)->Unit(benchmark::kMicrosecond);

void OpenMap(benchmark::State& state) {
  Client client = broker().connect();
  client.create(spec("bench/opened", kSmall));
  for (auto _ : state) {
    const Mapping mapping(client.open("bench/opened", Access::read_only));
    benchmark::DoNotOptimize(mapping.size());
  }
  client.revoke("bench/opened");
}
BENCHMARK(OpenMap)->Unit(benchmark::kMicrosecond)->Iterations(5000);

/// state.range(0): MiB; range(1): 1 for sealed (punch), 0 for revocable (truncate).
void RevokeFloor(benchmark::State& state) {
  const auto size = static_cast<std::uint64_t>(state.range(0)) << 20U;
  for (auto _ : state) {
    state.PauseTiming();
    const int fd = sealed_memfd(size, state.range(1) != 0 ? F_SEAL_GROW | F_SEAL_SHRINK : F_SEAL_GROW);
    void* address = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    state.ResumeTiming();
    const int done = state.range(1) != 0 ? ::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                                                       static_cast<off_t>(size))
                                         : ::ftruncate(fd, 0);
    state.PauseTiming();
    if (done != 0) state.SkipWithError("the floor failed");
    ::munmap(address, size);
    ::close(fd);
    state.ResumeTiming();
  }
}
BENCHMARK(RevokeFloor)
    ->Args({64, 0})
    ->Args({64, 1})
    ->Args({1024, 0})
    ->Args({1024, 1})
    ->Unit(benchmark::kMillisecond)
    ->Iterations(5);

void Revoke(benchmark::State& state) {
  Client client = broker().connect();
  const auto size = static_cast<std::uint64_t>(state.range(0)) << 20U;
  for (auto _ : state) {
    state.PauseTiming();
    auto mapping = std::make_unique<Mapping>(
        client.create(spec("bench/large", size, state.range(1) != 0 ? SealKind::sealed : SealKind::revocable),
                      Access::read_write));
    for (std::uint64_t at = 0; at < size; at += 4096) mapping->writable()[at] = std::byte{1};
    state.ResumeTiming();
    client.revoke("bench/large");
    state.PauseTiming();
    mapping.reset();
    state.ResumeTiming();
  }
}
BENCHMARK(Revoke)
    ->Args({64, 0})
    ->Args({64, 1})
    ->Args({1024, 0})
    ->Args({1024, 1})
    ->Unit(benchmark::kMillisecond)
    ->Iterations(5);

/// Create, and one page of a list, with range(0) regions already there: flat is what is wanted.
void CreateAmongMany(benchmark::State& state) {
  static std::uint64_t there = 0;
  Client client = broker().connect();
  while (there < static_cast<std::uint64_t>(state.range(0)))
    client.create(spec("many/" + std::to_string(there++), 4096));
  for (auto _ : state) {
    client.create(spec("bench/one-more", 4096));
    state.PauseTiming();
    client.revoke("bench/one-more");
    state.ResumeTiming();
  }
}
BENCHMARK(CreateAmongMany)
    ->Arg(1000)
    ->Arg(10000)
    ->Arg(15000)
    ->Unit(benchmark::kMicrosecond)
    ->Iterations(2000);

void ShowAmongMany(benchmark::State& state) {
  Client client = broker().connect();
  for (auto _ : state) benchmark::DoNotOptimize(client.show("many/500").region.size);
}
BENCHMARK(ShowAmongMany)->Unit(benchmark::kMicrosecond)->Iterations(5000);

}  // namespace
}  // namespace mapcap::test

BENCHMARK_MAIN();
