// The only includer of libpmem2 in the client.
//
// The granularity is the one that the broker attests: for a clone of a DAX file libpmem2 itself would see an
// ordinary file and conclude `page`. pmem2_map_from_existing believes what it is told, and the functions that
// a map then gives depend on its granularity only, never on its range. So one page a granularity is made into
// a map, once a process, and every mapping uses its functions. A map a region would do the same, but
// libpmem2 1.12.1 leaks for each map that is made from an existing one and deleted (measured: 144 bytes).
// Which means are used:
//
//   granularity   cache mode                      flush        drain
//   none          wb                              nothing      nothing
//   none          wc, uc by page attribute        nothing      fence        (BYTE)
//   none          any by store discipline         lines        fence        (CACHE_LINE)
//   byte          any but by store discipline     nothing      fence        (BYTE)
//   cache line, or byte by store discipline       lines        fence        (CACHE_LINE)
//   page          any                             msync (and lines first, by store discipline)
//
// Of these only flushing lines touches the memory: msync of a revoked mapping succeeds, and nothing at all
// does too. So one byte is read at last, under the guard.
//
// At page granularity libpmem2's persist ends the process when msync fails, so msync is called here.
#include <libpmem2.h>
#include <sys/mman.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "base/units.h"
#include "client/raise.h"
#include "client/stores.h"
#include "mapcap/error.h"
#include "mapcap/guard.h"

namespace mapcap {

struct Mapping::Stores::Means {
  pmem2_flush_fn flush;
  pmem2_drain_fn drain;
  pmem2_memcpy_fn copy;
  pmem2_memset_fn set;
};

namespace {

[[noreturn]] void raise_pmem2(const char* call) {
  throw Error(ErrorCode::io, std::string(call) + ": " + pmem2_errormsg());
}

// The map lives as long as the process, like the page that it is of.
pmem2_map* map_of_one_page(std::byte* page, pmem2_granularity granularity) {
  pmem2_source* source = nullptr;
  if (pmem2_source_from_anon(&source, kPageSize) != 0) raise_pmem2("pmem2_source_from_anon");
  pmem2_map* map = nullptr;
  // SAFETY: the page is static, so it outlives the map; nothing is ever stored to it through the map.
  const int failed = pmem2_map_from_existing(&map, source, page, kPageSize, granularity);
  pmem2_source_delete(&source);
  if (failed != 0) raise_pmem2("pmem2_map_from_existing");
  return map;
}

template <pmem2_granularity granularity>
pmem2_map* the_map() {
  alignas(kPageSize) static std::array<std::byte, kPageSize> page;
  static pmem2_map* const map = map_of_one_page(page.data(), granularity);
  return map;
}

void check(Touch touch) {
  if (touch == Touch::revoked)
    throw Error(
        ErrorCode::revoked,
        "the region was revoked, or its device has bad blocks there; unmap it, and open it again if it "
        "still exists");
}

}  // namespace

const Mapping::Stores::Means* Mapping::Stores::means_for(const Memory& memory) {
  const auto means_of = [](pmem2_map* map) {
    return Means{pmem2_get_flush_fn(map), pmem2_get_drain_fn(map), pmem2_get_memcpy_fn(map),
                 pmem2_get_memset_fn(map)};
  };
  const Granularity granularity = memory.durability.granularity;
  if (granularity == Granularity::cache_line || memory.mechanism == CacheMechanism::store_discipline) {
    static const Means lines = means_of(the_map<PMEM2_GRANULARITY_CACHE_LINE>());
    return &lines;
  }
  if (granularity == Granularity::byte || memory.cache != CacheMode::write_back) {
    static const Means fences = means_of(the_map<PMEM2_GRANULARITY_BYTE>());
    return &fences;
  }
  return nullptr;
}

Mapping::Stores::Stores(const Memory& memory)
    : address_(memory.address),
      size_(memory.size),
      msync_(memory.durability.granularity == Granularity::page),
      // What page attributes keep out of the cache are devices: a read is slow there, and nobody takes them
      // away.
      looks_(memory.mechanism == CacheMechanism::store_discipline || memory.cache == CacheMode::write_back ||
             memory.cache == CacheMode::write_through),
      means_(means_for(memory)) {}

void Mapping::Stores::sync(std::byte* begin, std::size_t length) const {
  const std::size_t head = reinterpret_cast<std::uintptr_t>(begin) % kPageSize;
  // SAFETY: rounding down stays within the mapping, which begins at a page.
  if (::msync(begin - head, length + head, MS_SYNC) != 0) raise(io_error("msync of a region", errno));
}

void Mapping::Stores::check_still_there(const std::byte* begin) const {
  if (!looks_) return;
  // SAFETY: within the mapping; volatile, so that the touch happens.
  check(guarded({address_, size_},
                [&]() noexcept { static_cast<void>(*static_cast<const volatile std::byte*>(begin)); }));
}

void Mapping::Stores::flush(std::byte* begin, std::size_t length) const {
  if (length == 0) return;
  if (means_ != nullptr) check(guarded({address_, size_}, [&]() noexcept { means_->flush(begin, length); }));
  if (msync_) sync(begin, length);
  check_still_there(begin);
}

void Mapping::Stores::drain() const {
  if (means_ != nullptr) means_->drain();
}

void Mapping::Stores::copy(std::byte* begin, const std::byte* source, std::size_t length) const {
  if (length == 0) return;
  check(guarded({address_, size_}, [&]() noexcept {
    if (means_ != nullptr) {
      means_->copy(begin, source, length, 0);
    } else {
      std::memcpy(begin, source, length);
    }
  }));
  if (msync_) sync(begin, length);
  check_still_there(begin);
}

void Mapping::Stores::set(std::byte* begin, std::byte value, std::size_t length) const {
  if (length == 0) return;
  const int byte = std::to_integer<int>(value);
  check(guarded({address_, size_}, [&]() noexcept {
    if (means_ != nullptr) {
      means_->set(begin, byte, length, 0);
    } else {
      std::memset(begin, byte, length);
    }
  }));
  if (msync_) sync(begin, length);
  check_still_there(begin);
}

}  // namespace mapcap
