// Some hundred operations on a recorded ledger, with their outcomes: what the crash tests replay.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "broker/ledger/ledger.h"
#include "tests/support/recording_medium.h"

namespace mapcap::test {

/// A region, a quota slot of the user with that number, or an endpoint.
struct Key {
  bool quota = false;
  std::uint64_t number = 0;
  bool endpoint = false;
  bool operator==(const Key&) const = default;
};

struct Operation {
  Key key;
  std::optional<std::uint64_t> value;  ///< Written, unique among all operations; none: an erase.
  broker::ledger::Strength strength = broker::ledger::Strength::process;  ///< Asked for.
  std::size_t begin = 0;       ///< Position in the recording when it was asked for,
  std::size_t end = SIZE_MAX;  ///< and when its outcome was known.
  bool refused = false;
};

/// The record that an operation with this key and value writes.
broker::ledger::RegionRecord region_with(Key key, std::uint64_t value);
broker::ledger::QuotaRecord quota_with(Key key, std::uint64_t value);
/// Of several slots; what stays the same of it takes most of them.
broker::ledger::EndpointRecord endpoint_with(Key key, std::uint64_t value);

struct History {
  std::shared_ptr<RecordingMedium> medium;
  std::vector<Operation> operations;
  std::size_t closed = SIZE_MAX;  ///< Position at which close() had succeeded.
  std::uint64_t refused_for_space = 0;
  std::uint64_t refused_for_io = 0;
};

/// Creates, updates, erases at both strengths, promotions, quotas set and cleared, a full table that may not
/// grow and one that does, id reservations; on a page medium also failing syncs, four clients at once. The
/// same every time.
History run_scenario(Granularity granularity, Mutation mutation, int rounds);

/// What may be found for each key after a crash just before event `position`.
class Expectation {
 public:
  enum class Crash : std::uint8_t { kill, power_cut };
  Expectation(const History& history, std::size_t position, Crash crash);

  /// Empty when `found` is one of the allowed outcomes, otherwise what is wrong.
  [[nodiscard]] std::string judge(const broker::ledger::Recovered& found, std::uint64_t next_id) const;

 private:
  struct Allowed {
    Key key;
    bool anything = false;  ///< Any value it ever had, or none: a volatile region's record after a power cut.
    bool absent = false;
    std::vector<std::uint64_t> values;
  };
  [[nodiscard]] const Allowed* find(Key key) const;
  std::vector<Allowed> allowed_;
  std::unordered_map<std::uint64_t, std::size_t> by_number_;
  std::uint64_t highest_acknowledged_ = 0;
};

}  // namespace mapcap::test
