// Grants of regions that are opened again and again, made before anybody asks: which there are, and of which region more
// are worth making. Each is a fresh open. Loop only.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "broker/confine/confiner.h"
#include "broker/keeper/stock.h"
#include "mapcap/fd.h"

namespace mapcap::broker::keeper {

/// Read-only, and nobody's: closed when destroyed.
struct ReadyOpen {
  confine::GrantId grant = 0;
  std::uint32_t place = 0;  ///< On the LabelBoard.
  Fd fd;
};

class ReadyOpens {
 public:
  using Stocked = Stock<ReadyOpen>;
  using Time = Stocked::Time;

  /// Of one region, so that one that is in demand leaves something to others.
  static constexpr std::size_t kMostOfOne = 32;
  /// Regions that are remembered to have been opened: others are opened as they are asked for.
  static constexpr std::size_t kMostRegions = 1024;

  /// The oldest that is ready, or nothing, which is remembered.
  std::optional<ReadyOpen> take(RegionId region, Time now);
  /// How many are to be made of it now, where there may be `most` of all regions, which share that.
  [[nodiscard]] std::size_t missing(RegionId region, std::size_t most) const;

  /// Some that are being made. `wanted` is false once the region's were dropped: then none is to be made any more, by
  /// whatever thread, and none arrives.
  struct Batch {
    RegionId region;
    std::shared_ptr<const std::atomic<bool>> wanted;
  };
  Batch ordered(RegionId region, std::size_t count);
  void arrived(const Batch& batch, ReadyOpen made);
  /// One of them did not come to be, or is not wanted: for now no more are.
  void failed(const Batch& batch);
  /// Whether anybody has asked for the region's in a while.
  [[nodiscard]] bool asked_for(const Batch& batch, Time now) const;

  /// What was ready of the region; it is as if it had never been opened.
  [[nodiscard]] std::vector<ReadyOpen> drop(RegionId region);
  /// The same for all that nobody has asked for in a while, and for all.
  [[nodiscard]] std::vector<ReadyOpen> drop_idle(Time now);
  [[nodiscard]] std::vector<ReadyOpen> drop_all();

  [[nodiscard]] std::size_t ready() const { return ready_; }
  /// With those that are on their way.
  [[nodiscard]] std::size_t all() const { return ready_ + on_their_way_; }
  [[nodiscard]] bool empty() const { return regions_.empty(); }

 private:
  struct Ready {
    Stocked stock;
    std::shared_ptr<std::atomic<bool>> wanted = std::make_shared<std::atomic<bool>>(true);
  };
  using Regions = std::unordered_map<std::uint64_t, Ready>;
  Ready* find(const Batch& batch);
  Regions::iterator drop(Regions::iterator at, std::vector<ReadyOpen>& dropped);

  Regions regions_;
  std::size_t ready_ = 0;
  std::size_t on_their_way_ = 0;
};

}  // namespace mapcap::broker::keeper
