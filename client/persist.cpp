// The only includer of libpmem2 in the client.
//
// The map is built with pmem2_map_from_existing and the granularity that the broker attests: for a clone of a
// DAX file libpmem2 itself would see an ordinary file and conclude `page`. Which means are used:
//
//   granularity   cache mode                      flush        drain
//   none          wb                              nothing      nothing
//   none          wc, uc by page attribute        nothing      fence        (BYTE)
//   none          any by store discipline         lines        fence        (CACHE_LINE)
//   byte          any but by store discipline     nothing      fence        (BYTE)
//   cache line, or byte by store discipline       lines        fence        (CACHE_LINE)
//   page          any                             msync (and lines first, by store discipline)
//
// At page granularity libpmem2's persist ends the process when msync fails, so msync is called here.
#include <libpmem2.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <optional>

#include "client/convert.h"
#include "client/stores.h"
#include "mapcap/error.h"
#include "mapcap/guard.h"
#include "schema/units.h"

namespace mapcap {
namespace {

[[noreturn]] void raise_pmem2(const char* call) {
  throw Error(ErrorCode::io, std::string(call) + ": " + pmem2_errormsg());
}

// libpmem2 takes regular files and devdax. It needs the source of an existing map only for deep flushes,
// which are not used here, so anything else (a PCI BAR) passes as anonymous memory of the same size.
pmem2_source* make_source(int fd, std::size_t size) {
  pmem2_source* source = nullptr;
  if (pmem2_source_from_fd(&source, fd) == 0) return source;
  if (pmem2_source_from_anon(&source, size) == 0) return source;
  raise_pmem2("pmem2_source_from_anon");
}

void check(Touch touch) {
  if (touch == Touch::revoked)
    throw Error(ErrorCode::revoked, "the region was revoked; unmap it, and open it again if it still exists");
}

}  // namespace

Mapping::Stores::Stores(const Memory& memory) : address_(memory.address), size_(memory.size) {
  const bool discipline = memory.mechanism == CacheMechanism::store_discipline;
  const Granularity granularity = memory.durability.granularity;
  msync_ = granularity == Granularity::page;
  std::optional<pmem2_granularity> lines;
  if (granularity == Granularity::cache_line || discipline) {
    lines = PMEM2_GRANULARITY_CACHE_LINE;
  } else if (granularity == Granularity::byte || memory.cache != CacheMode::write_back) {
    lines = PMEM2_GRANULARITY_BYTE;
  }
  if (!lines) return;
  pmem2_source* source = make_source(memory.fd, memory.size);
  // SAFETY: [address, address + size) was mapped by our caller, who keeps it mapped until after our
  // destructor.
  const int failed = pmem2_map_from_existing(&pmem_, source, memory.address, memory.size, *lines);
  pmem2_source_delete(&source);
  if (failed != 0) raise_pmem2("pmem2_map_from_existing");
}

Mapping::Stores::~Stores() {
  // Forgets an existing map without unmapping it.
  if (pmem_ != nullptr) pmem2_map_delete(&pmem_);
}

void Mapping::Stores::sync(std::byte* begin, std::size_t length) const {
  const std::size_t head = reinterpret_cast<std::uintptr_t>(begin) % schema::kPageSize;
  // SAFETY: rounding down stays within the mapping, which begins at a page.
  if (::msync(begin - head, length + head, MS_SYNC) != 0) raise(schema::io_error("msync of a region", errno));
}

void Mapping::Stores::flush(std::byte* begin, std::size_t length) {
  if (length == 0) return;
  if (pmem_ != nullptr) {
    const auto flush_lines = pmem2_get_flush_fn(pmem_);
    check(guarded({address_, size_}, [&]() noexcept { flush_lines(begin, length); }));
  }
  if (msync_) sync(begin, length);
}

void Mapping::Stores::drain() {
  if (pmem_ != nullptr) pmem2_get_drain_fn(pmem_)();
}

void Mapping::Stores::copy(std::byte* begin, const std::byte* source, std::size_t length) {
  if (length == 0) return;
  const auto copy_lines = pmem_ != nullptr ? pmem2_get_memcpy_fn(pmem_) : nullptr;
  check(guarded({address_, size_}, [&]() noexcept {
    if (copy_lines != nullptr) {
      copy_lines(begin, source, length, 0);
    } else {
      std::memcpy(begin, source, length);
    }
  }));
  if (msync_) sync(begin, length);
}

void Mapping::Stores::set(std::byte* begin, std::byte value, std::size_t length) {
  if (length == 0) return;
  const auto set_lines = pmem_ != nullptr ? pmem2_get_memset_fn(pmem_) : nullptr;
  check(guarded({address_, size_}, [&]() noexcept {
    if (set_lines != nullptr) {
      set_lines(begin, std::to_integer<int>(value), length, 0);
    } else {
      std::memset(begin, std::to_integer<int>(value), length);
    }
  }));
  if (msync_) sync(begin, length);
}

}  // namespace mapcap
