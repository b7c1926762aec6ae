// Promise 8: a crash at any store leaves the ledger at the state before or after the operation, never
// between.
//
// A scenario is recorded once for each kind of medium. Then, for every moment of it, the states that a kill
// or a power cut could leave are recovered and judged. And to show that the judge would notice: each flush,
// fence and sync of the ledger is left out in turn, and then a state must fail.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>

#include "broker/ledger/recovery.h"
#include "tests/crash/ledger_scenario.h"
#include "tests/support/crash_states.h"
#include "tests/support/memory_medium.h"

namespace mapcap::test {
namespace {

using broker::ledger::Step;
using Call = Mutation::Call;

#ifdef MAPCAP_SANITIZED
// A tenth of the speed: the full count belongs to the plain build, which judges what recovery finds. Here
// only the code that recovers is looked at, and the 400 rounds repeat each kind of state many times: a sample
// takes every way through it. A prime, so that it keeps no step with the scenario.
constexpr Bounds kBounds{64, 24};
constexpr std::uint64_t kEach = 7;
#else
constexpr Bounds kBounds{1024, 192};
constexpr std::uint64_t kEach = 1;
#endif
// Enough for the table to grow twice and to be full in between, and for every kind of change to follow every
// other.
constexpr int kRounds = 400;

/// Recovers every state that the recording makes possible.
class Judge {
 public:
  Judge(const History& history, Mutation mutation) : history_(history), mutation_(mutation) {}

  /// The first violation, or empty.
  std::string power_cuts() {
    CrashStates states(*history_.medium, kBounds);
    std::string wrong;
    states.power_cuts([&](std::size_t position, const std::vector<std::byte>& bytes) {
      if (left_out()) return true;
      wrong = judge(position, bytes, Expectation::Crash::power_cut);
      return wrong.empty();
    });
    return wrong;
  }

  std::string kills() {
    const CrashStates states(*history_.medium, kBounds);
    std::string wrong;
    states.kills([&](std::size_t position, const std::vector<std::byte>& bytes) {
      if (left_out()) return true;
      wrong = judge(position, bytes, Expectation::Crash::kill);
      if (wrong.empty() && recovered % 149 == 0) {
        const CrashStates::Killed killed = states.killed_at(position);
        wrong = recover_and_cut(position, killed.durable, killed.view);
      }
      return wrong.empty();
    });
    return wrong;
  }

  std::uint64_t recovered = 0;
  std::uint64_t recovered_twice = 0;

 private:
  /// Of a sample, whether the next state is not in it.
  bool left_out() { return seen_++ % kEach != 0; }

  const Expectation& expected(std::size_t position, Expectation::Crash crash) {
    if (!expectation_ || position != expected_at_ || crash != expected_crash_) {
      expectation_.emplace(history_, position, crash);
      expected_at_ = position;
      expected_crash_ = crash;
    }
    return *expectation_;
  }

  std::string judge(std::size_t position, const std::vector<std::byte>& bytes, Expectation::Crash crash) {
    ++recovered;
    scratch_.contents() = bytes;
    auto reading = broker::ledger::read(scratch_);
    if (!reading) return at(position) + reading.error().sentence;
    const bool delicate = tombstone_above_a_version(reading.value().scan);
    auto opened = broker::ledger::recover(scratch_);
    if (!opened) return at(position) + opened.error().sentence;
    std::string wrong = expected(position, crash).judge(opened.value().recovered, opened.value().next_id);
    if (!wrong.empty()) return at(position) + wrong;
    // Recovery may be cut short too. A tombstone above an older version is where its order matters most.
    if (crash == Expectation::Crash::power_cut && (recovered % 997 == 0 || (delicate && delicate_++ < 400))) {
      return recover_and_cut(position, bytes, bytes);
    }
    return {};
  }

  /// An erased id with an older version still there: recovery must free that first.
  [[nodiscard]] bool tombstone_above_a_version(const broker::ledger::Scan& scan) const {
    const auto id_of = [&](std::uint32_t slot) {
      return broker::ledger::load64(scratch_.bytes(),
                                    broker::ledger::kSlotsOffset + slot * broker::ledger::kSlotSize + 8);
    };
    return std::any_of(scan.tombstones.begin(), scan.tombstones.end(), [&](std::uint32_t tombstone) {
      return std::any_of(scan.stale.begin(), scan.stale.end(),
                         [&](std::uint32_t stale) { return id_of(stale) == id_of(tombstone); });
    });
  }

  /// Recovers from what was seen at a crash, and cuts the power at each moment of that and right after.
  std::string recover_and_cut(std::size_t position, const std::vector<std::byte>& durable,
                              const std::vector<std::byte>& view) {
    ++recovered_twice;
    RecordingMedium medium(history_.medium->granularity(), durable, view, mutation_);
    auto opened = broker::ledger::recover(medium);
    if (!opened) return at(position) + opened.error().sentence;
    std::string wrong;
    CrashStates states(medium, Bounds{64, 24});
    states.power_cuts([&](std::size_t inner, const std::vector<std::byte>& bytes) {
      scratch_.contents() = bytes;
      auto again = broker::ledger::recover(scratch_);
      if (!again) {
        wrong = again.error().sentence;
        return false;
      }
      wrong = expected(position, Expectation::Crash::power_cut)
                  .judge(again.value().recovered, again.value().next_id);
      if (wrong.empty() && inner == medium.events().size() &&
          again.value().recovered.regions != opened.value().recovered.regions) {
        wrong = "what recovery reported was gone after a power cut";
      }
      return wrong.empty();
    });
    return wrong.empty() ? wrong : at(position) + "recovering again: " + wrong;
  }

  static std::string at(std::size_t position) {
    return "crash before event " + std::to_string(position) + ": ";
  }

  const History& history_;
  Mutation mutation_;
  MemoryMedium scratch_{{}};
  std::optional<Expectation> expectation_;
  std::size_t expected_at_ = 0;
  Expectation::Crash expected_crash_ = Expectation::Crash::kill;
  std::uint64_t delicate_ = 0;
  std::uint64_t seen_ = 0;
};

std::string name_of(Granularity granularity) {
  return granularity == Granularity::page ? "page" : "cache_line";
}

/// Kills and power cuts apart, so that they run side by side.
struct Crashed {
  Granularity granularity;
  Expectation::Crash crash;
};

class LedgerStates : public testing::TestWithParam<Crashed> {};

TEST_P(LedgerStates, EveryCrashLeavesTheStateBeforeOrAfter) {
  const auto& [granularity, crash] = GetParam();
  const History history = run_scenario(granularity, {}, kRounds);
  EXPECT_GE(history.operations.size(), 400U);
  EXPECT_GT(history.refused_for_space, 0U) << "the table was never full";
  if (granularity == Granularity::page) {
    EXPECT_GT(history.refused_for_io, 4U) << "no sync failed";
  }
  EXPECT_GE(history.medium->bytes().size(), broker::ledger::kSlotsOffset + 128 * broker::ledger::kSlotSize)
      << "it never grew twice";
  Judge judge(history, {});
  const bool kill = crash == Expectation::Crash::kill;
  EXPECT_EQ(kill ? judge.kills() : judge.power_cuts(), "");
  // Most events are stores whose states are those of the event before; a state comes with one in some twelve.
  EXPECT_GT(judge.recovered, history.medium->events().size() / (20 * kEach)) << "hardly a state was judged";
  std::printf("%s: %zu operations, %zu events, %llu states of a %s, %llu of a second crash\n",
              name_of(granularity).c_str(), history.operations.size(), history.medium->events().size(),
              static_cast<unsigned long long>(judge.recovered), kill ? "kill" : "power cut",
              static_cast<unsigned long long>(judge.recovered_twice));
}

// One thread has nothing to race with: ThreadSanitizer would only take two minutes.
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(LedgerStates);
#ifndef __SANITIZE_THREAD__
INSTANTIATE_TEST_SUITE_P(Media, LedgerStates,
                         testing::Values(Crashed{Granularity::cache_line, Expectation::Crash::kill},
                                         Crashed{Granularity::cache_line, Expectation::Crash::power_cut},
                                         Crashed{Granularity::page, Expectation::Crash::kill},
                                         Crashed{Granularity::page, Expectation::Crash::power_cut}),
                         [](const auto& chosen) {
                           return name_of(chosen.param.granularity) +
                                  (chosen.param.crash == Expectation::Crash::kill ? "_kill" : "_power_cut");
                         });
#endif

struct Mutant {
  Granularity granularity;
  Mutation mutation;
};

class LedgerMutants : public testing::TestWithParam<Mutant> {};

TEST_P(LedgerMutants, LeavingOutOneDurabilityCallIsNoticed) {
  const auto& [granularity, mutation] = GetParam();
  const History history = run_scenario(granularity, mutation, kRounds);
  Judge judge(history, mutation);
  std::string wrong = judge.power_cuts();
  if (wrong.empty()) wrong = judge.kills();
  EXPECT_NE(wrong, "") << "nothing depends on " << to_string(mutation) << ": it is not needed, or not tested";
}

[[maybe_unused]] std::vector<Mutant> mutants() {
  std::vector<Mutant> all;
  for (Granularity granularity : {Granularity::cache_line, Granularity::page}) {
    for (Step step : {Step::record, Step::promotion, Step::tombstone, Step::release, Step::closing,
                      Step::start_first, Step::start_second, Step::superblock_first, Step::superblock_second,
                      Step::adopt, Step::recovery_release}) {
      all.push_back({granularity, {Call::flush, step}});
    }
    for (Step step : {Step::put, Step::erase, Step::closing, Step::start_first, Step::start_second,
                      Step::superblock_first, Step::superblock_second, Step::adopt, Step::recovery_release}) {
      all.push_back({granularity, {Call::settle, step}});
    }
  }
  all.push_back({Granularity::page, {Call::flush, Step::retry}});
  all.push_back({Granularity::page, {Call::redirty, Step::retry}});
  return all;
}

// They judge this test, which needs more states for that than a sanitizer can go through; memory errors would
// show in LedgerStates.
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(LedgerMutants);
#ifndef MAPCAP_SANITIZED
INSTANTIATE_TEST_SUITE_P(Calls, LedgerMutants, testing::ValuesIn(mutants()), [](const auto& chosen) {
  return name_of(chosen.param.granularity) + "_" + to_string(chosen.param.mutation);
});
#endif

}  // namespace
}  // namespace mapcap::test
