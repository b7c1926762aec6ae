// How large an NVDIMM namespace must be for a device of some size: a part of it goes for its own info block
// and for the kernel's page map.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/units.h"

namespace mapcap::broker::pool {

/// What a device's data begin and end at.
inline constexpr std::uint64_t kNamespaceAlignment = 2U << 20U;
/// The info block at a namespace's head, and what the kernel keeps for each page behind it: nd_pfn_init in
/// the kernel's drivers/nvdimm/pfn_devs.c (MAX_STRUCT_PAGE_SIZE).
inline constexpr std::uint64_t kInfoBlock = 8192;
inline constexpr std::uint64_t kPerPage = 64;

/// To a multiple of `unit`; `value` at least `unit` below the largest number.
constexpr std::uint64_t round_up(std::uint64_t value, std::uint64_t unit) {
  return (value + unit - 1) / unit * unit;
}

/// Of a namespace of `raw` bytes, at least kInfoBlock, what its device does not have.
constexpr std::uint64_t namespace_overhead(std::uint64_t raw) {
  const std::uint64_t pages = (raw - kInfoBlock) / kPageSize;
  return round_up(kInfoBlock + pages * kPerPage, kNamespaceAlignment);
}

/// What its device has.
constexpr std::uint64_t usable_size(std::uint64_t raw) {
  return raw - std::min(raw, namespace_overhead(raw));
}

/// The smallest multiple of `granule` whose device has at least `asked` bytes, which are below 2^63.
///
/// It is the least raw with raw >= asked + overhead(raw). Taking the right side for the left again and again
/// comes to it from below, and each step is a sixty-fourth of the one before: a dozen are enough for any
/// number that a client may think of.
constexpr std::uint64_t namespace_size(std::uint64_t asked, std::uint64_t granule) {
  std::uint64_t raw = round_up(asked + kInfoBlock, granule);
  for (;;) {
    const std::uint64_t needed = round_up(asked + namespace_overhead(raw), granule);
    if (needed <= raw) return raw;
    raw = needed;
  }
}

}  // namespace mapcap::broker::pool
