// What the broker knows in memory, with 1,000 and with 1,000,000 regions: adding and removing one, finding
// one by name, one page of a list, and the resident bytes that a region takes. Flat is what is wanted.
//
// Pin it: taskset -c 0 directory_bench. Quote ratios of medians (--benchmark_repetitions=9).
#include <benchmark/benchmark.h>
#include <unistd.h>

#include <fstream>
#include <memory>
#include <string>

#include "broker/books/directory.h"
#include "broker/books/quotas.h"

namespace mapcap::broker {
namespace {

std::uint64_t resident() {
  std::ifstream statm("/proc/self/statm");
  std::uint64_t size = 0;
  std::uint64_t pages = 0;
  statm >> size >> pages;
  return pages * 4096;
}

/// A broker's books with so many regions in them.
struct Books {
  explicit Books(std::int64_t regions) {
    quotas.add_pool("dram", ~0ULL);
    const std::uint64_t before = resident();
    for (std::int64_t i = 1; i <= regions; ++i)
      add(static_cast<std::uint64_t>(i), "many/" + std::to_string(i % 997));
    bytes = static_cast<double>(resident() - before) / static_cast<double>(regions);
  }

  void add(std::uint64_t id, const std::string& prefix) {
    auto region = std::make_unique<Region>(loop);
    region->record.id = {id};
    region->record.name = prefix + "/region-" + std::to_string(id);
    region->record.pool = "dram";
    region->record.size = {4096};
    auto reserved = directory.reserve(region->record.name);
    auto charge = quotas.reserve({0, 0, "dram"}, {4096, 1, 0, 0});
    if (!reserved || !charge) std::abort();
    region->charge = std::move(charge.value());
    directory.add(std::move(region));
  }

  BootTime time;
  Loop loop{time};
  Quotas quotas;
  Directory directory;
  double bytes = 0;
};

Books& books_of(std::int64_t regions) {
  static std::unique_ptr<Books> books;
  static std::int64_t filled = 0;
  if (filled != regions) {
    books.reset();
    books = std::make_unique<Books>(regions);
    filled = regions;
  }
  return *books;
}

void add_and_remove(benchmark::State& state) {
  Books& books = books_of(state.range(0));
  std::uint64_t id = 1ULL << 40U;
  for (auto _ : state) {
    books.add(++id, "bench");
    books.directory.remove({id});
  }
  state.counters["bytes_a_region"] = books.bytes;
}

void find_by_name(benchmark::State& state) {
  Books& books = books_of(state.range(0));
  std::uint64_t number = 0;
  for (auto _ : state) {
    number = number * 6364136223846793005ULL + 1442695040888963407ULL;
    const std::uint64_t id = number % static_cast<std::uint64_t>(state.range(0)) + 1;
    const std::string name = "many/" + std::to_string(id % 997) + "/region-" + std::to_string(id);
    benchmark::DoNotOptimize(books.directory.find(name));
  }
}

void visit_one_page(benchmark::State& state) {
  Books& books = books_of(state.range(0));
  for (auto _ : state) {
    int left = 500;
    books.directory.visit_from({"many/500", 0}, [&](const Region& region) {
      benchmark::DoNotOptimize(region.record.size.value);
      return --left > 0;
    });
  }
}

// In the order of sizes, so that the books are filled twice and not six times.
[[maybe_unused]] const bool registered = [] {
  for (const std::int64_t regions : {1'000, 1'000'000}) {
    benchmark::RegisterBenchmark("add_and_remove", add_and_remove)->Arg(regions);
    benchmark::RegisterBenchmark("find_by_name", find_by_name)->Arg(regions);
    benchmark::RegisterBenchmark("visit_one_page", visit_one_page)->Arg(regions);
  }
  return true;
}();

}  // namespace
}  // namespace mapcap::broker

BENCHMARK_MAIN();
