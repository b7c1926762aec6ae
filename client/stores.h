// How stores to one mapping reach memory, and from there the media. libpmem2 is behind this, in persist.cpp.
#pragma once

#include <cstddef>

#include "mapcap/mapping.h"

namespace mapcap {

class __attribute__((visibility("hidden"))) Mapping::Stores {
 public:
  /// What is mapped, and what is known of it.
  struct Memory {
    std::byte* address = nullptr;
    std::size_t size = 0;
    Durability durability;
    CacheMode cache = CacheMode::write_back;
    CacheMechanism mechanism = CacheMechanism::page_attribute;
  };

  /// Errors: `io` with libpmem2's message.
  explicit Stores(const Memory& memory);

  /// Ranges are within the mapping. Errors: `io`, `revoked`.
  void flush(std::byte* begin, std::size_t length) const;
  void drain() const;
  /// Copy or set, flush and drain in one.
  void copy(std::byte* begin, const std::byte* source, std::size_t length) const;
  void set(std::byte* begin, std::byte value, std::size_t length) const;

 private:
  struct Means;
  static const Means* means_for(const Memory& memory);
  void sync(std::byte* begin, std::size_t length) const;
  void check_still_there(const std::byte* begin) const;

  std::byte* address_;
  std::size_t size_;
  bool msync_;  ///< Page granularity.
  bool looks_;  ///< A read shows whether it was revoked, and changes nothing.
  const Means*
      means_;  ///< Where lines are flushed or stores are fenced; else null. Lives as long as the process.
};

}  // namespace mapcap
