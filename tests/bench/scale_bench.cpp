// Does anything cost more because many regions exist? Fills a real broker with regions of one page, stops at
// 1,000, 10,000, 100,000 and the number given, and at each stop measures, beside a floor:
//
//     create               | memfd_create, ftruncate, seal and close, at the same moment
//     show, list of a prefix with one region in it
//     list of everything   | per region
//     memory               | resident bytes a region of the broker and of the keeper
//
// and in the end, how long a killed broker's successor takes until it answers. Needs root. Broker and keeper
// hold one descriptor of each region, so without a number it is a million or what the limit on open files
// allows. MAPCAP_BENCH_DIR names the directory for the broker's state (default /tmp).
//
//     scale_bench [REGIONS]
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/broker_process.h"

namespace mapcap::test {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::uint64_t kPage = 4096;
constexpr int kFillers = 4;  ///< As many requests as the broker lets one user have under way.
constexpr int kSamples = 1000;
constexpr std::chrono::seconds kPatience{600};  ///< With a restart in an emulated machine.

double microseconds(Clock::duration taken) {
  return std::chrono::duration<double, std::micro>(taken).count();
}

template <typename Action>
double microseconds_of(Action action) {
  const auto begin = Clock::now();
  action();
  return microseconds(Clock::now() - begin);
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

RegionSpec spec(const std::string& name) {
  RegionSpec wanted;
  wanted.name = name;
  wanted.size = kPage;
  wanted.lifetime = Lifetime::persistent();
  return wanted;
}

/// Processor time that a process has used, in microseconds: what others do on the machine hardly changes it.
double processor_time(pid_t pid) {
  double total = 0;
  for (const auto& task : std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/task")) {
    std::ifstream schedstat(task.path() / "schedstat");
    double nanoseconds = 0;
    schedstat >> nanoseconds;
    total += nanoseconds / 1000;
  }
  return total;
}

/// Resident bytes of a process.
std::uint64_t resident(pid_t pid) {
  std::ifstream statm("/proc/" + std::to_string(pid) + "/statm");
  std::uint64_t size = 0;
  std::uint64_t pages = 0;
  statm >> size >> pages;
  return pages * kPage;
}

void fill(const BrokerProcess& broker, std::uint64_t from, std::uint64_t to) {
  std::atomic<std::uint64_t> next{from};
  std::vector<std::thread> fillers;
  for (int i = 0; i < kFillers; ++i) {
    fillers.emplace_back([&] {
      try {
        Client client = broker.connect();
        for (std::uint64_t number = next++; number < to; number = next++) {
          // Spread, as users' names are, instead of in order.
          client.create(spec("many/" + std::to_string(number % 997) + "/region-" + std::to_string(number)));
        }
      } catch (const Error& error) {
        std::fprintf(stderr, "a create failed: %s\n", error.what());
        next = to;
      }
    });
  }
  for (std::thread& filler : fillers) filler.join();
}

double floor_of_create() {
  std::vector<double> taken;
  for (int i = 0; i < kSamples; ++i) {
    taken.push_back(microseconds_of([] {
      const int fd = ::memfd_create("floor", MFD_CLOEXEC | MFD_ALLOW_SEALING);
      const bool made = ::ftruncate(fd, static_cast<off_t>(kPage)) == 0 &&
                        ::fcntl(fd, F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) == 0;
      if (!made) std::abort();
      ::close(fd);
    }));
  }
  return median(taken);
}

/// Of one operation: what the client waits for, and the processor time of broker and keeper.
struct Cost {
  double waited = 0;
  double worked = 0;
};

struct Costs {
  std::uint64_t regions = 0;
  double floor = 0;
  Cost create;
  Cost show;
  Cost list_one;            ///< A prefix with one region in it.
  Cost list_per_region;     ///< Of everything.
  double broker_bytes = 0;  ///< Resident, a region.
  double keeper_bytes = 0;
};

/// Medians of what is waited for, means of the work.
template <typename Operation>
Cost cost_of(const BrokerProcess& broker, int times, Operation operation) {
  const pid_t keeper = broker.keeper_pid();
  std::vector<double> waited;
  const double before = processor_time(broker.pid()) + processor_time(keeper);
  for (int i = 0; i < times; ++i) waited.push_back(microseconds_of([&] { operation(i); }));
  const double after = processor_time(broker.pid()) + processor_time(keeper);
  return {median(waited), (after - before) / times};
}

Costs measure(const BrokerProcess& broker, std::uint64_t regions, std::uint64_t empty_broker,
              std::uint64_t empty_keeper) {
  Costs costs;
  costs.regions = regions;
  const auto per_region = [&](std::uint64_t now, std::uint64_t empty) {
    return static_cast<double>(now - std::min(now, empty)) / static_cast<double>(regions);
  };
  costs.broker_bytes = per_region(resident(broker.pid()), empty_broker);
  costs.keeper_bytes = per_region(resident(broker.keeper_pid()), empty_keeper);
  Client client = broker.connect();
  const auto name = [](int i) { return "probe/" + std::to_string(i) + "/one"; };
  costs.floor = floor_of_create();
  costs.create = cost_of(broker, kSamples, [&](int i) { client.create(spec(name(i))); });
  costs.show = cost_of(broker, kSamples, [&](int i) { client.show(name(i)); });
  costs.list_one =
      cost_of(broker, kSamples, [&](int i) { client.list("probe/" + std::to_string(i) + "/*"); });
  for (int i = 0; i < kSamples; ++i) client.revoke(name(i));
  std::size_t listed = 0;
  costs.list_per_region = cost_of(broker, 5, [&](int) { listed = client.list().size(); });
  if (listed != regions) std::printf("list shows %zu of %" PRIu64 " regions\n", listed, regions);
  costs.list_per_region.waited /= static_cast<double>(listed);
  costs.list_per_region.worked /= static_cast<double>(listed);
  return costs;
}

void print(const char* what, const Cost& cost, const Cost& first) {
  std::printf("    %-22s work %7.2f us = %4.2f of its first; waited %8.2f us = %5.2f of its first\n", what,
              cost.worked, cost.worked / first.worked, cost.waited, cost.waited / first.waited);
}

void print(const Costs& costs, const Costs& first) {
  std::printf(
      "%" PRIu64
      " regions; resident a region: broker %.0f bytes, keeper %.0f; create waits %.1f times its floor\n",
      costs.regions, costs.broker_bytes, costs.keeper_bytes, costs.create.waited / costs.floor);
  print("create", costs.create, first.create);
  print("show", costs.show, first.show);
  print("list a prefix of one", costs.list_one, first.list_one);
  print("list all, a region", costs.list_per_region, first.list_per_region);
  std::fflush(stdout);
}

int run(std::uint64_t most) {
  const char* named = std::getenv("MAPCAP_BENCH_DIR");  // NOLINT(concurrency-mt-unsafe): before any thread.
  BrokerProcess broker(R"([broker]
max_connections_per_user = 1000
[pool.dram]
backing = "memory"
capacity = ")" + std::to_string((most * kPage >> 20U) + 64) +
                           R"(M"
[[rule]]
any = true
names = ["**"]
)",
                       named != nullptr ? named : "/tmp");
  broker.start(kPatience);
  fill(broker, 0, 16);  // Threads, arenas and pages that any first request brings.
  const std::uint64_t empty_broker = resident(broker.pid());
  const std::uint64_t empty_keeper = resident(broker.keeper_pid());
  std::uint64_t there = 16;
  Costs first;
  for (const std::uint64_t stop : {std::uint64_t{1000}, std::uint64_t{10000}, std::uint64_t{100000}, most}) {
    if (stop > most || stop <= there) continue;
    fill(broker, there, stop);
    there = stop;
    const Costs costs = measure(broker, stop, empty_broker, empty_keeper);
    if (first.regions == 0) first = costs;
    print(costs, first);
  }
  broker.kill_broker();
  const double recovery = microseconds_of([&] { broker.start(kPatience); });
  const std::size_t found = broker.connect().list().size();
  std::printf("a killed broker's successor answers after %.2f s, %.2f us a region, and lists %zu\n",
              recovery / 1e6, recovery / static_cast<double>(there), found);
  std::printf("resident after it: broker %.0f B a region\n",
              static_cast<double>(resident(broker.pid())) / static_cast<double>(there));
  return found == there ? 0 : 1;
}

}  // namespace
}  // namespace mapcap::test

namespace {

/// A million, or as many as a process may hold descriptors of.
std::uint64_t as_many_as_fit() {
  std::uint64_t most = 0;
  std::ifstream("/proc/sys/fs/nr_open") >> most;
  const rlimit wanted{most, most};
  rlimit limit{};
  if (::setrlimit(RLIMIT_NOFILE, &wanted) != 0 && ::getrlimit(RLIMIT_NOFILE, &limit) == 0)
    most = limit.rlim_max;
  return std::min<std::uint64_t>(1'000'000,
                                 most - std::min<std::uint64_t>(most, 3000));  // Some for the probes.
}

}  // namespace

int main(int argc, char** argv) {
  if (::geteuid() != 0) {
    std::fprintf(stderr, "scale_bench: needs root, because it starts mapcapd\n");
    return 77;
  }
  try {
    const std::uint64_t asked = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 0;
    return mapcap::test::run(asked > 0 ? asked : as_many_as_fit());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "scale_bench: %s\n", error.what());
    return 1;
  }
}
