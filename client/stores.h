// How stores to one mapping reach memory, and from there the media. libpmem2 is behind this, in persist.cpp.
#pragma once

#include <cstddef>
#include <memory>

#include "mapcap/mapping.h"

struct pmem2_map;

namespace mapcap {

class Mapping::Stores {
 public:
  /// What is mapped, and what is known of it.
  struct Memory {
    std::byte* address = nullptr;
    std::size_t size = 0;
    int fd = -1;  ///< Looked at during construction only.
    Durability durability;
    CacheMode cache = CacheMode::write_back;
    CacheMechanism mechanism = CacheMechanism::page_attribute;
  };

  /// Errors: `io` with libpmem2's message.
  explicit Stores(const Memory& memory);
  ~Stores();
  Stores(const Stores&) = delete;
  Stores& operator=(const Stores&) = delete;

  /// The range is within the mapping. Errors: `io`, `revoked`.
  void flush(std::byte* begin, std::size_t length);
  void drain();
  /// Copy or set, flush and drain in one.
  void copy(std::byte* begin, const std::byte* source, std::size_t length);
  void set(std::byte* begin, std::byte value, std::size_t length);

 private:
  void sync(std::byte* begin, std::size_t length) const;

  std::byte* address_;
  std::size_t size_;
  bool msync_ = false;         ///< Page granularity.
  pmem2_map* pmem_ = nullptr;  ///< Where lines are flushed or stores are fenced; else null.
};

}  // namespace mapcap
