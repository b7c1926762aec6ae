// What the keeper must hold, and how much of that it has been given so far. Loop only.
//
// The descriptors are their owners', who keep each open until drop(): so nothing has to be asked for again,
// or duplicated, when a keeper dies and the next one must be given everything.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <unordered_map>
#include <vector>

#include "base/units.h"
#include "mapcap/fd.h"

namespace mapcap::broker::keeper {

class Holdings {
 public:
  /// What is to be given next. Descriptors and regions correspond.
  struct Batch {
    std::vector<std::uint64_t> regions;
    std::vector<BorrowedFd> fds;
  };

  /// The region is to be held from now on. What is held already stays so.
  void add(RegionId region, BorrowedFd fd) { put(region, fd, Kind::memory); }
  /// The same for what may become the memory of that region, with add().
  void add_blank(RegionId region, BorrowedFd fd) { put(region, fd, Kind::blank); }
  /// The same for the listening socket of an endpoint, whose number no region has.
  void add_socket(RegionId number, BorrowedFd fd) { put(number, fd, Kind::socket); }

  struct Count {
    std::size_t all = 0;
    std::size_t given = 0;
  };
  [[nodiscard]] Count of_regions() const { return counts_[index(Kind::memory)]; }
  [[nodiscard]] Count of_sockets() const { return counts_[index(Kind::socket)]; }

  /// The keeper has it since an earlier broker's days; nobody here vouches for it before add(), and it counts as memory
  /// until then.
  void adopt(RegionId region) {
    const auto [known, fresh] = regions_.try_emplace(region.value);
    Holding& holding = known->second;
    if (!fresh) count(holding, -1);
    holding.given = true;
    count(holding, 1);
  }

  /// True when the keeper was given it, and must be told.
  bool drop(RegionId region) {
    const auto known = regions_.find(region.value);
    if (known == regions_.end()) return false;
    const bool given = known->second.given;
    count(known->second, -1);
    regions_.erase(known);
    return given;
  }

  /// A new keeper: it holds nothing.
  void begin_anew() {
    waiting_.clear();
    for (Count& one : counts_) one.given = 0;
    for (auto at = regions_.begin(); at != regions_.end();) {
      at->second.given = false;
      // Without a descriptor there is nothing to give: the old keeper's was the last word on it.
      if (!at->second.fd.valid()) {
        count(at->second, -1);
        at = regions_.erase(at);
        continue;
      }
      waiting_.push_back(at->first);
      ++at;
    }
  }

  /// Up to `most` that were not given yet; empty when there are none.
  Batch next(std::size_t most) {
    Batch batch;
    while (!waiting_.empty() && !is_waiting(waiting_.front())) waiting_.pop_front();
    for (auto at = waiting_.begin(); at != waiting_.end() && batch.regions.size() < most; ++at) {
      if (!is_waiting(*at)) continue;
      batch.regions.push_back(*at);
      batch.fds.push_back(regions_.at(*at).fd);
    }
    return batch;
  }

  /// What next() returned has been sent.
  void sent(const Batch& batch) {
    for (const std::uint64_t region : batch.regions) {
      Holding& holding = regions_.at(region);
      count(holding, -1);
      holding.given = true;
      count(holding, 1);
    }
    while (!waiting_.empty() && !is_waiting(waiting_.front())) waiting_.pop_front();
  }

  [[nodiscard]] bool knows(RegionId region) const { return regions_.contains(region.value); }
  /// Up to `most` regions that were not given yet.
  [[nodiscard]] std::vector<RegionId> unheld(std::size_t most) const {
    std::vector<RegionId> found;
    for (auto at = waiting_.begin(); at != waiting_.end() && found.size() < most; ++at) {
      if (is_waiting(*at) && regions_.at(*at).kind == Kind::memory) found.push_back(RegionId{*at});
    }
    return found;
  }
  [[nodiscard]] bool held(RegionId region) const {
    const auto known = regions_.find(region.value);
    return known != regions_.end() && known->second.given;
  }
  [[nodiscard]] std::size_t size() const { return regions_.size(); }
  [[nodiscard]] std::size_t given() const {
    std::size_t all = 0;
    for (const Count& one : counts_) all += one.given;
    return all;
  }

 private:
  enum class Kind : std::uint8_t { memory = 0, blank = 1, socket = 2 };
  static constexpr std::size_t index(Kind kind) { return static_cast<std::size_t>(kind); }
  struct Holding {
    BorrowedFd fd;
    bool given = false;
    Kind kind = Kind::memory;
  };
  void put(RegionId region, BorrowedFd fd, Kind kind) {
    const auto [known, fresh] = regions_.try_emplace(region.value);
    Holding& holding = known->second;
    if (fresh) {
      waiting_.push_back(region.value);
    } else {
      count(holding, -1);
    }
    holding.fd = fd;
    holding.kind = kind;
    count(holding, 1);
  }
  void count(const Holding& holding, int by) {
    Count& its = counts_[index(holding.kind)];
    its.all += static_cast<std::size_t>(by);
    if (holding.given) its.given += static_cast<std::size_t>(by);
  }
  [[nodiscard]] bool is_waiting(std::uint64_t region) const {
    const auto known = regions_.find(region);
    return known != regions_.end() && !known->second.given;
  }

  std::unordered_map<std::uint64_t, Holding> regions_;
  std::deque<std::uint64_t> waiting_;  ///< In the order that they came; those that were dropped stay inside.
  std::array<Count, 3> counts_{};      ///< By kind.
};

}  // namespace mapcap::broker::keeper
