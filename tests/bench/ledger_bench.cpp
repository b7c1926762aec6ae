// The ledger beside what the machine alone would take, in the same run:
//
//     recovery of N records   | summing up the same bytes of the same mapping, once
//     put, page granularity   | a bare store to one page and msync of it
//     put, cache_line, byte   | a bare store of 256 bytes (pretended on tmpfs: the flushes are real, the
//     medium is not)
//     put, process strength   | the same
//     put and erase among 1,000 and among 1,000,000 records
//
// Pin it: taskset -c 0 ledger_bench. MAPCAP_BENCH_DIR names the directory of the page-granularity file
// (default /tmp); quote ratios of medians (--benchmark_repetitions=9).
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <string>

#include "broker/ledger/medium/medium_file.h"
#include "broker/ledger/recovery.h"
#include "broker/ledger/table/record_layout.h"
#include "tests/support/loop_harness.h"
#include "tests/support/memory_medium.h"

namespace mapcap::broker::ledger {
namespace {

std::string directory() {
  const char* named = std::getenv("MAPCAP_BENCH_DIR");  // NOLINT(concurrency-mt-unsafe): before any thread.
  return named != nullptr ? named : "/tmp";
}

RegionRecord region(std::uint64_t id) {
  RegionRecord record;
  record.id = {id};
  record.name = "bench/region-" + std::to_string(id);
  record.pool = "dram";
  record.size = {1U << 20U};
  return record;
}

std::vector<std::byte> ledger_of(std::uint32_t records) {
  std::vector<std::byte> bytes = test::empty_ledger((records + 15) / 16 * 16);
  for (std::uint32_t slot = 0; slot < records; ++slot) {
    SlotImage image;
    if (!encode(region(slot + 1), image)) std::abort();
    seal(image, {SlotKind::region, Strength::power, slot + 1ULL, slot + 1ULL}, {0xC0FFEE, slot});
    std::memcpy(bytes.data() + kSlotsOffset + std::size_t{slot} * kSlotSize, image.data(), image.size());
  }
  return bytes;
}

/// The scan alone: checksums, versions, the map from id to slot.
void recovery_scan(benchmark::State& state) {
  const auto records = static_cast<std::uint32_t>(state.range(0));
  const std::vector<std::byte> bytes = ledger_of(records);
  const auto slots = std::span(bytes).subspan(kSlotsOffset);
  std::size_t memory = 0;
  for (auto _ : state) {
    const Scan found = scan(slots, records, 0xC0FFEE);
    if (found.live.size() != records) state.SkipWithError("records are missing");
    memory = found.live.memory();
  }
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(slots.size()));
  state.counters["memory_per_record"] = static_cast<double>(memory) / records;
}
BENCHMARK(recovery_scan)->Arg(1'000)->Arg(100'000)->Arg(1'000'000)->Unit(benchmark::kMillisecond);

void recovery_floor_plain_read(benchmark::State& state) {
  const std::vector<std::byte> bytes = ledger_of(static_cast<std::uint32_t>(state.range(0)));
  for (auto _ : state) {
    std::uint64_t sum = 0;
    for (std::size_t at = 0; at < bytes.size(); at += 8) sum += load64(bytes, at);
    benchmark::DoNotOptimize(sum);
  }
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(bytes.size()));
}
BENCHMARK(recovery_floor_plain_read)->Arg(1'000)->Arg(100'000)->Arg(1'000'000)->Unit(benchmark::kMillisecond);

/// All of opening but the file: the scan, and every record as a value with its strings.
void recovery_with_records(benchmark::State& state) {
  test::MemoryMedium medium(ledger_of(static_cast<std::uint32_t>(state.range(0))));
  for (auto _ : state) {
    auto opened = recover(medium);
    if (!opened) state.SkipWithError(opened.error().sentence.c_str());
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(recovery_with_records)->Arg(1'000)->Arg(100'000)->Arg(1'000'000)->Unit(benchmark::kMillisecond);

/// Updates one record over and over, through loop and worker as the broker does.
void put(benchmark::State& state, const std::string& where, std::optional<Granularity> pretend,
         Strength strength) {
  const std::string path = where + "/ledger-bench-" + std::to_string(::getpid());
  FileOptions options;
  options.pretend = pretend;
  {
    test::LoopHarness harness;
    auto medium = open_or_create_file(path, options);
    if (!medium) return state.SkipWithError(medium.error().sentence.c_str());
    auto opened = open_on(medium.value(), harness.loop, harness.worker);
    if (!opened) return state.SkipWithError(opened.error().sentence.c_str());
    Ledger& ledger = *opened.value();
    const RegionRecord record = region(ledger.next_id().value);
    auto many = [](Ledger& to, RegionRecord one, Strength how,
                   benchmark::State& running) -> broker::Task<int> {
      for (auto _ : running) {
        RegionRecord copy = one;
        const auto done = co_await to.put(std::move(copy), how);
        if (!done) running.SkipWithError(done.error().sentence.c_str());
      }
      co_return 0;
    };
    harness.run(many(ledger, record, strength, state));
  }
  ::unlink(path.c_str());
}
BENCHMARK_CAPTURE(put, msync_file, directory(), std::nullopt, Strength::power)->UseRealTime();
BENCHMARK_CAPTURE(put, cache_line, "/dev/shm", Granularity::cache_line, Strength::power)->UseRealTime();
BENCHMARK_CAPTURE(put, byte, "/dev/shm", Granularity::byte, Strength::power)->UseRealTime();
BENCHMARK_CAPTURE(put, process_strength_file, directory(), std::nullopt, Strength::process)->UseRealTime();

/// A region that comes and goes while state.range(0) others stay: flat is what is wanted.
void put_and_erase_among_many(benchmark::State& state) {
  const std::string path = "/dev/shm/ledger-bench-" + std::to_string(::getpid());
  FileOptions options;
  options.capacity = static_cast<std::uint32_t>((state.range(0) * 5 / 4 + 15) / 16 * 16);
  {
    test::LoopHarness harness;
    auto medium = open_or_create_file(path, options);
    if (!medium) return state.SkipWithError(medium.error().sentence.c_str());
    auto opened = open_on(medium.value(), harness.loop, harness.worker);
    if (!opened) return state.SkipWithError(opened.error().sentence.c_str());
    auto come_and_go = [](Ledger& ledger, benchmark::State& running) -> broker::Task<int> {
      for (std::int64_t i = 0; i < running.range(0); ++i) {
        (void)co_await ledger.put(region(ledger.next_id().value), Strength::process);
      }
      for (auto _ : running) {
        const RegionId id = ledger.next_id();
        const auto made = co_await ledger.put(region(id.value), Strength::process);
        const auto gone = co_await ledger.erase(id, Strength::process);
        if (!made || !gone) running.SkipWithError("refused");
      }
      co_return 0;
    };
    harness.run(come_and_go(*opened.value(), state));
  }
  ::unlink(path.c_str());
}
BENCHMARK(put_and_erase_among_many)->Arg(1'000)->Arg(1'000'000)->Unit(benchmark::kMicrosecond);

void put_floor_bare_msync(benchmark::State& state) {
  const std::string path = directory() + "/msync-bench-" + std::to_string(::getpid());
  const Fd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  const std::string page(4096, 'x');
  if (!fd.valid() || ::write(fd.get(), page.data(), page.size()) != 4096 || ::fsync(fd.get()) != 0)
    std::abort();
  // SAFETY: a fresh mapping of one page of a file that stays open.
  void* mapped = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (mapped == MAP_FAILED) std::abort();
  unsigned char value = 0;
  for (auto _ : state) {
    std::memset(mapped, ++value, kSlotSize);
    if (::msync(mapped, 4096, MS_SYNC) != 0) std::abort();
  }
  ::munmap(mapped, 4096);
  ::unlink(path.c_str());
}
BENCHMARK(put_floor_bare_msync)->UseRealTime();

void put_floor_bare_stores(benchmark::State& state) {
  SlotImage from{};
  SlotImage to{};
  for (auto _ : state) {
    std::memcpy(to.data(), from.data(), from.size());
    benchmark::ClobberMemory();
  }
}
BENCHMARK(put_floor_bare_stores)->UseRealTime();

}  // namespace
}  // namespace mapcap::broker::ledger

BENCHMARK_MAIN();
