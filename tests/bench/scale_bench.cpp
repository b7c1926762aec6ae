// Does anything cost more because many regions exist? Fills a real broker with regions of one page, stops at 10,
// 1,000, 10,000, 100,000 and the number given, and at each stop measures, beside a floor:
//
//     create               | memfd_create, ftruncate, seal and close, at the same moment
//     show, open and map, list of a prefix with one region in it
//     list of everything   | per region
//     memory               | resident bytes a region of the broker and of the keeper
//     restart              | how long a killed broker's successor takes until it answers
//
// Needs root. Broker and keeper hold one descriptor of each region, so without a number it is a million or what the
// limit on open files allows. MAPCAP_BENCH_DIR names the directory for the broker's state (default /tmp). --json: a
// line of JSON for each stop, instead of words.
//
//     scale_bench [--json] [REGIONS]
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
#include <fstream>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "tests/bench/measure.h"
#include "tests/support/broker_process.h"

namespace mapcap::test {
namespace {

using bench::median;
using bench::processor_time;
using Clock = std::chrono::steady_clock;

constexpr std::uint64_t kPage = 4096;
constexpr int kFillers = 4;  ///< As many requests as the broker lets one user have under way.
constexpr int kSamples = 1000;
constexpr int kBatch = 10;  ///< So few of them are there beside those that a stop is about.

double microseconds(Clock::duration taken) {
  return std::chrono::duration<double, std::micro>(taken).count();
}

template <typename Action>
double microseconds_of(Action action) {
  const auto begin = Clock::now();
  action();
  return microseconds(Clock::now() - begin);
}

RegionSpec spec(const std::string& name) {
  RegionSpec wanted;
  wanted.name = name;
  wanted.size = kPage;
  wanted.lifetime = Lifetime::persistent();
  return wanted;
}

/// Resident bytes of a process.
std::uint64_t resident(pid_t pid) {
  std::ifstream statm("/proc/" + std::to_string(pid) + "/statm");
  std::uint64_t size = 0;
  std::uint64_t pages = 0;
  statm >> size >> pages;
  return pages * kPage;
}

/// False when the broker takes no more, which standard error says why.
bool fill(const BrokerProcess& broker, std::uint64_t from, std::uint64_t to) {
  std::atomic<std::uint64_t> next{from};
  std::atomic<bool> failed = false;
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
        failed = true;
      }
    });
  }
  for (std::thread& filler : fillers) filler.join();
  return !failed;
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
  Cost open;
  Cost list_one;            ///< A prefix with one region in it.
  Cost list_per_region;     ///< Of everything.
  double broker_bytes = 0;  ///< Resident, a region.
  double keeper_bytes = 0;
  double restart = 0;  ///< From the start of a killed broker's successor to its first answer, milliseconds.
};

/// One kind of operation, in batches: medians of what is waited for, means of the work.
class Meter {
 public:
  explicit Meter(std::vector<pid_t> processes) : processes_(std::move(processes)) {}

  template <typename Operation>
  void batch(int times, Operation operation) {
    const double before = processor_time(processes_);
    for (int i = 0; i < times; ++i) waited_.push_back(microseconds_of([&] { operation(i); }));
    worked_ += processor_time(processes_) - before;
  }
  [[nodiscard]] Cost cost() const { return {median(waited_), worked_ / static_cast<double>(waited_.size())}; }

 private:
  std::vector<pid_t> processes_;
  std::vector<double> waited_;
  double worked_ = 0;
};

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
  const std::vector<pid_t> processes{broker.pid(), broker.keeper_pid()};
  Meter create(processes);
  Meter show(processes);
  Meter open(processes);
  Meter list_one(processes);
  Meter list_all(processes);
  costs.floor = floor_of_create();
  for (int done = 0; done < kSamples; done += kBatch) {
    create.batch(kBatch, [&](int i) { client.create(spec(name(i))); });
    show.batch(kBatch, [&](int i) { client.show(name(i)); });
    open.batch(kBatch, [&](int i) { const Mapping mapping(client.open(name(i), Access::read_only)); });
    list_one.batch(kBatch, [&](int i) { client.list("probe/" + std::to_string(i) + "/*"); });
    for (int i = 0; i < kBatch; ++i) client.revoke(name(i));
  }
  costs.create = create.cost();
  costs.show = show.cost();
  costs.open = open.cost();
  costs.list_one = list_one.cost();
  std::size_t listed = 0;
  list_all.batch(5, [&](int) { listed = client.list().size(); });
  costs.list_per_region = list_all.cost();
  if (listed != regions) std::fprintf(stderr, "list shows %zu of %" PRIu64 " regions\n", listed, regions);
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
  print("open", costs.open, first.open);
  print("list a prefix of one", costs.list_one, first.list_one);
  print("list all, a region", costs.list_per_region, first.list_per_region);
  std::printf("    a killed broker's successor answers after %.0f ms\n", costs.restart);
  std::fflush(stdout);
}

void print_json(const Costs& costs) {
  std::printf("{\"kind\": \"scale\", \"regions\": %" PRIu64
              ", \"floor\": %.2f, \"broker_bytes\": %.0f, "
              "\"keeper_bytes\": %.0f, \"restart_ms\": %.1f",
              costs.regions, costs.floor, costs.broker_bytes, costs.keeper_bytes, costs.restart);
  const auto cost = [](const char* what, const Cost& of) {
    std::printf(", \"%s\": {\"waited\": %.3f, \"worked\": %.3f}", what, of.waited, of.worked);
  };
  cost("create", costs.create);
  cost("show", costs.show);
  cost("open", costs.open);
  cost("list_one", costs.list_one);
  cost("list_per_region", costs.list_per_region);
  std::printf("}\n");
  std::fflush(stdout);
}

int run(std::uint64_t most, bool json) {
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
  broker.start();
  if (!fill(broker, 0, 10)) return 1;  // Threads, arenas and pages that any first request brings.
  const std::uint64_t empty_broker = resident(broker.pid());
  const std::uint64_t empty_keeper = resident(broker.keeper_pid());
  std::uint64_t there = 10;
  Costs first;
  for (const std::uint64_t stop : std::set<std::uint64_t>{10, 1000, 10000, 100000, most}) {
    if (stop > most) continue;
    if (!fill(broker, there, stop)) break;
    there = stop;
    Costs costs = measure(broker, stop, empty_broker, empty_keeper);
    broker.kill_broker();
    costs.restart = microseconds_of([&] { broker.start(); }) / 1e3;
    const std::size_t found = broker.connect().list().size();
    if (found != there) {
      std::fprintf(stderr, "%zu regions of %" PRIu64 " are there after a restart\n", found, there);
      return 1;
    }
    if (first.regions == 0) first = costs;
    if (json) {
      print_json(costs);
    } else {
      print(costs, first);
    }
  }
  return 0;
}

}  // namespace
}  // namespace mapcap::test

namespace {

/// A million, or as many as a process may hold descriptors of, but for those of connections and what the broker
/// keeps for more of them.
std::uint64_t as_many_as_fit() {
  std::uint64_t most = 0;
  std::ifstream("/proc/sys/fs/nr_open") >> most;
  const rlimit wanted{most, most};
  rlimit limit{};
  if (::setrlimit(RLIMIT_NOFILE, &wanted) != 0 && ::getrlimit(RLIMIT_NOFILE, &limit) == 0)
    most = limit.rlim_max;
  return std::min<std::uint64_t>(1'000'000, most - std::min<std::uint64_t>(most, 6000));
}

}  // namespace

int main(int argc, char** argv) {
  if (::geteuid() != 0) {
    std::fprintf(stderr, "scale_bench: needs root, because it starts mapcapd\n");
    return 77;
  }
  try {
    const bool json = argc > 1 && std::string_view(argv[1]) == "--json";
    const std::uint64_t asked = std::strtoull(argv[argc - 1], nullptr, 10);
    return mapcap::test::run(asked > 0 ? std::min(asked, as_many_as_fit()) : as_many_as_fit(), json);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "scale_bench: %s\n", error.what());
    return 1;
  }
}
