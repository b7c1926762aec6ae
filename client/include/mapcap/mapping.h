// A grant in this process's memory, and how stores to it are made durable.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <type_traits>

#include "mapcap/api.h"
#include "mapcap/grant.h"
#include "mapcap/types.h"

namespace mapcap {

/// Maps a whole region, shared. Move-only; unmaps when destroyed. The fd may be closed while the mapping
/// lives.
///
/// Durability follows what the broker attests, not what the fd looks like: stores to a region with
/// `cache_line` granularity are durable after a cache line flush (libpmem2), with `page` after msync, and
/// with `none` never. Cache modes whose mechanism is store_discipline, and write-combining ones, need a flush
/// and a fence to reach memory: flush(), drain(), copy() and fill() do what the mode needs, also on volatile
/// memory.
///
/// Thread-safe for different byte ranges. A `revocable` region may be taken away: then a touch is SIGBUS; see
/// guard.h. persist() and flush() of a revoked mapping throw `revoked`, whatever its granularity: they look at the
/// first byte of their range at last.
class MAPCAP_API Mapping {
 public:
  /// Maps a grant with the grant's rights. Errors: `io` (details: errno), `lost`.
  explicit Mapping(const Grant& grant);
  /// Maps with fewer rights: read_only of a read_write grant. Errors: `denied` for more rights than granted.
  Mapping(const Grant& grant, Access rights);

  Mapping(Mapping&&) noexcept;
  Mapping& operator=(Mapping&&) noexcept;
  ~Mapping();

  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] Access rights() const { return rights_; }
  [[nodiscard]] const Durability& durability() const { return durability_; }
  [[nodiscard]] CacheMode cache() const { return cache_; }

  /// The region's bytes.
  [[nodiscard]] std::span<const std::byte> bytes() const { return {address_, size_}; }
  /// The same for storing. Errors: `denied` on a read-only mapping.
  [[nodiscard]] std::span<std::byte> writable();

  /// An object at `offset`. T must be trivially copyable; alignment and bounds are checked: `invalid`.
  template <typename T>
  [[nodiscard]] const T* at(std::size_t offset) const {
    static_assert(std::is_trivially_copyable_v<T>);
    return reinterpret_cast<const T*>(checked(offset, sizeof(T), alignof(T)));
  }
  template <typename T>
  [[nodiscard]] T* writable_at(std::size_t offset) {
    static_assert(std::is_trivially_copyable_v<T>);
    static_cast<void>(writable());
    return reinterpret_cast<T*>(checked(offset, sizeof(T), alignof(T)));
  }

  /// Makes stores to [offset, offset + length) durable, and visible to every observer of the region's memory.
  /// Returns by which granularity they now are durable. `none` says: they are not, this memory is volatile.
  /// Errors: `invalid` for a range outside the mapping, `io` when msync failed (then nothing is known to be
  /// durable), `revoked`.
  Granularity persist(std::size_t offset, std::size_t length);
  Granularity persist() { return persist(0, size_); }

  /// persist() in two steps: flush() any number of ranges, then one drain(). With `page` granularity flush()
  /// is the msync, and drain() does nothing.
  Granularity flush(std::size_t offset, std::size_t length);
  void drain();

  /// Copies and persists, with non-temporal stores where that is faster. The source must not overlap the
  /// mapping. Errors: as persist(), `denied` on a read-only mapping.
  Granularity memcpy_persist(std::size_t offset, std::span<const std::byte> source);
  /// Sets bytes and persists.
  Granularity memset_persist(std::size_t offset, std::byte value, std::size_t length);

 private:
  class Stores;
  std::byte* checked(std::size_t offset, std::size_t length, std::size_t alignment) const;

  std::byte* address_ = nullptr;
  std::size_t size_ = 0;
  Access rights_ = Access::read_only;
  CacheMode cache_ = CacheMode::write_back;
  Durability durability_;
  std::unique_ptr<Stores> stores_;
};

}  // namespace mapcap
