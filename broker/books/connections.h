// `connection` regions end with their creator's connection -- after a grace period in which the same user may
// come back with the token that the broker gave to that connection. The token is in the region's record, so
// the grace period also spans a restart of the broker.
#pragma once

#include <array>
#include <chrono>
#include <functional>
#include <map>
#include <set>
#include <string>

#include "base/units.h"
#include "broker/wait/loop.h"

namespace mapcap::broker {

using Token = std::array<std::uint8_t, 16>;

class Connections {
 public:
  /// `end` is called for each region whose grace period ran out.
  Connections(Loop& loop, std::function<void(RegionId)> end) : loop_(loop), end_(std::move(end)) {}

  void set_grace(std::chrono::nanoseconds grace) { grace_ = grace; }
  [[nodiscard]] std::chrono::nanoseconds grace() const { return grace_; }

  /// A new connection of this user: 128 random bits.
  Token open(std::uint32_t uid);
  /// True when the token is that of an ended connection of the same user whose grace period still runs; from
  /// now on it is connected again.
  bool resume(const Token& token, std::uint32_t uid);
  /// The connection ended: its regions' grace period begins.
  void closed(const Token& token);

  /// Gives out what lives by that connection, whose grace period is not wanted: the caller ends it.
  [[nodiscard]] std::set<RegionId> take_regions(const Token& token);

  void enrol(const Token& token, RegionId region);
  void forget(const Token& token, RegionId region);
  /// After a restart: the region's connection is gone, its grace period begins now.
  void restore(const Token& token, std::uint32_t uid, RegionId region);

  /// Connections that live, or whose regions do; and those regions.
  [[nodiscard]] std::size_t bonds() const { return bonds_.size(); }
  [[nodiscard]] std::size_t regions() const;

 private:
  struct Bond {
    std::uint32_t uid = 0;
    bool connected = false;
    std::set<RegionId> regions;
    Loop::Timer grace;
  };
  void start_grace(const Token& token, Bond& bond);
  /// One for each turn of the loop, so that everybody else has theirs.
  void end_all(std::set<RegionId> regions);

  Loop& loop_;
  std::function<void(RegionId)> end_;
  std::chrono::nanoseconds grace_{0};
  std::map<Token, Bond> bonds_;
};

}  // namespace mapcap::broker
