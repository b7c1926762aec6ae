// What the files of Reclaim share: reclaim.cpp (from the request to the answer), unheld.cpp (of what nobody has), cut.cpp
// (promise 5) and free.cpp (from the cut to the end of the charge).
#pragma once

#include <chrono>
#include <cstddef>

#include "broker/books/directory.h"
#include "broker/books/pools.h"

namespace mapcap::broker {

inline constexpr std::chrono::nanoseconds kRetryAtMost = std::chrono::seconds(5);
/// Grants that are let go of in one turn of the loop.
inline constexpr std::size_t kGrantsATurn = 32;

/// To cut and to free: nobody but the broker has ever had it, so there is neither a mapping nor a page.
inline bool costs_nothing(const Region& region) {
  return region.pool->pool->quick() && !region.touched;
}

/// Counts a region that is asked about.
class Probing {
 public:
  explicit Probing(std::size_t& count) : count_(count) { ++count_; }
  Probing(const Probing&) = delete;
  Probing& operator=(const Probing&) = delete;
  ~Probing() { --count_; }

 private:
  std::size_t& count_;
};

}  // namespace mapcap::broker
