// From a recording to the states that a power cut could have left.
//
// The model: stores reach the medium cache line by cache line, each line at any moment and as often as it
// likes, in the order of its stores, 8 bytes at a time; lines are independent of each other. A fence makes
// durable what was flushed before it; a sync that succeeds makes durable what its dirty pages held when it
// began; a sync that fails makes nothing durable and leaves the pages clean (they are not written again until
// stored to). So a state is a choice, for each line, of how many of its not yet durable stores arrived. Disk
// sectors are coarser than lines, so every subset of sectors is among these states.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <random>
#include <set>
#include <vector>

#include "tests/support/recording_medium.h"

namespace mapcap::test {

struct Bounds {
  std::size_t exhaustive =
      1024;  ///< Choices over the lines stored to since the last barrier: all, up to so many;
  std::size_t sampled = 192;  ///< this many of them beyond. Older lines are chosen at random in each state.
};

/// Replays a recording event by event and offers the states that are possible before each barrier and at the
/// end.
class CrashStates {
 public:
  CrashStates(const RecordingMedium& recording, Bounds bounds);

  /// visit(position, bytes): the power was cut just before event number `position`. Stops when visit returns
  /// false.
  using Visit = std::function<bool(std::size_t position, const std::vector<std::byte>& bytes)>;
  void power_cuts(const Visit& visit);

  /// What a kill before event `position` leaves: all stores until then. One state each for the positions from
  /// 0 to the end at which a store has just happened.
  void kills(const Visit& visit) const;

  /// After a kill at `position` and before anything else: what is surely durable, and what is seen.
  struct Killed {
    std::vector<std::byte> durable;
    std::vector<std::byte> view;
  };
  [[nodiscard]] Killed killed_at(std::size_t position) const;

 private:
  struct Store {
    std::size_t number = 0;  // Of the event.
    std::size_t offset = 0;
    std::uint64_t word = 0;
  };
  struct Line {
    std::vector<Store> pending;  // Not yet surely durable.
    std::size_t flushed_to = 0;  // Number of the event up to which a flush has been asked for.
    bool fresh = false;          // Stored to since the last barrier.
  };
  void apply(const Event& event, std::size_t number);
  void settle_line(Line& line, std::size_t before);
  void settle_range(broker::ledger::Range range, std::size_t before);
  bool visit_states(std::size_t position, const Visit& visit);

  const RecordingMedium& recording_;
  Bounds bounds_;
  bool pages_;
  std::vector<std::byte> durable_;
  std::map<std::size_t, Line> lines_;
  std::map<std::size_t, std::size_t>
      clean_before_;  // Page: stores up to this event are not written by a sync.
  std::size_t sync_began_ = 0;
  std::mt19937_64 random_{1};
};

}  // namespace mapcap::test
