// Promises 6 to 9 at each step of a create and of a revoke: the broker dies right after the step, dies once
// more while it recovers, and then lives. Afterwards nothing is half there:
//
//   - what was acknowledged is so: a revoked region is gone, another one still has its bytes;
//   - what was not is gone or whole: it has every byte, or none if it was never written;
//   - no byte of the old region is ever seen again, in a region of its name or in any other of the pool;
//   - the pool's books are the sum of what is listed, and nothing stays in the keeper or in the pool's
//   directory.
//
// mapcapd_faults (tests/faults) is mapcapd with parts that kill it at the step that MAPCAP_DIE_AT names.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <filesystem>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "tests/support/backends.h"
#include "tests/support/broker_process.h"
#include "tests/support/patience.h"

namespace mapcap::test {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kSize = 2U << 20U;  // One huge page.
constexpr std::uint64_t kFit = 6;           // Regions in the pool.
constexpr std::byte kOld{0xA5};
constexpr std::byte kOther{0x5A};

bool all_are(std::span<const std::byte> bytes, std::byte wanted) {
  return std::all_of(bytes.begin(), bytes.end(), [&](std::byte one) { return one == wanted; });
}

enum class Holder {
  nobody,
  lets_go,  ///< Somebody has a mapping until the revoke has been answered.
  stays,    ///< Through it all.
};

struct Case {
  Backend backend;
  std::string step;
  Holder holder = Holder::nobody;
  bool keeper_too = false;  ///< The keeper dies with the broker.
};

class DeathTest : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (const std::string missing = what_lacks(GetParam().backend); !missing.empty()) GTEST_SKIP() << missing;
    scratch_ = std::make_unique<BackendScratch>(GetParam().backend);
    broker_ = std::make_unique<BrokerProcess>(scratch_->policy(std::to_string(kFit * kSize)));
    broker_->set_program(MAPCAPD_FAULTS_PATH);
  }

  void start_dying_at(const std::string& step) {
    broker_->set_environment({"MAPCAP_DIE_AT=" + step});
    broker_->start();
    held_at_start_ = held_by_keeper();
  }

  /// The next broker dies at `step` of its recovery, if it comes there; the one after it lives.
  void restart_with_a_death_at(const std::string& step) {
    ASSERT_TRUE(broker_->await_end()) << "the broker never came to its step";
    if (GetParam().keeper_too) end_keeper();
    broker_->set_environment({"MAPCAP_DIE_AT=" + step});
    if (broker_->start_if_it_lives()) broker_->kill_broker();
    broker_->set_environment({});
    broker_->start();
  }
  void end_keeper() {
    const pid_t keeper = broker_->keeper_pid();
    broker_->kill_keeper();
    EXPECT_TRUE(comes_true([&] { return keeper == 0 || broker_->keeper_pid() != keeper; }));
  }

  /// A client that lets each failure be seen.
  [[nodiscard]] Client connect() const {
    ConnectOptions options;
    options.deadline = kPatience;
    options.reconnect_within = 0ms;
    return broker_->connect(options);
  }
  [[nodiscard]] RegionSpec spec(const std::string& name) const {
    RegionSpec wanted;
    wanted.name = name;
    wanted.size = kSize;
    wanted.seal = seal_of(GetParam().backend);
    wanted.lifetime = Lifetime::persistent();
    return wanted;
  }
  Mapping create(Client& client, const std::string& name) const {
    return Mapping(client.create(spec(name), Access::read_write));
  }
  void create_filled(Client& client, const std::string& name, std::byte with) const {
    Mapping mapping = create(client, name);
    std::fill(mapping.writable().begin(), mapping.writable().end(), with);
  }

  /// The region of that name, unless it is on its way out or lost.
  static std::optional<RegionInfo> live(Client& client, const std::string& name) {
    std::optional<RegionInfo> found;
    EXPECT_TRUE(comes_true([&] {
      found.reset();
      bool leaving = false;
      for (RegionInfo& region : client.list()) {
        if (region.name != name) continue;
        if (region.state == RegionState::live) found = region;
        leaving = leaving || region.state == RegionState::revoking;
      }
      return !leaving;
    })) << name
        << " is being revoked for ever";
    return found;
  }
  static void revoke_if_there(Client& client, const std::string& name) {
    try {
      client.revoke(name);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::not_found) << error.what();
    }
  }

  [[nodiscard]] std::size_t held_by_keeper() const {
    const std::filesystem::path fds = "/proc/" + std::to_string(broker_->keeper_pid()) + "/fd";
    std::size_t count = 0;
    for (const auto& entry : std::filesystem::directory_iterator(fds)) {
      std::error_code gone;
      const std::string target = std::filesystem::read_symlink(entry.path(), gone);
      count += target.starts_with("/memfd:mapcap ") || target.starts_with("/secretmem") ||
               target.starts_with("/#");
    }
    return count;
  }

  /// Waits until the pool's books say so and no other region than `listed` ones is left.
  static void expect_used(Client& client, std::uint64_t regions) {
    std::uint64_t used = 0;
    std::size_t listed = 0;
    EXPECT_TRUE(comes_true([&] {
      used = client.pools().front().used;
      listed = client.list().size();
      return used == regions * kSize && listed == regions;
    })) << used
        << " bytes are charged and " << listed << " regions listed, not " << regions << " of " << kSize;
  }

  /// Hands the whole pool out, and looks at every byte of it.
  void expect_only_zeros_in_the_whole_pool(Client& client, std::uint64_t taken) {
    for (std::uint64_t i = taken; i < kFit; ++i) {
      const Mapping fresh = create(client, i == taken ? "root/a" : "root/fill-" + std::to_string(i));
      ASSERT_TRUE(all_are(fresh.bytes(), std::byte{0})) << "an old byte in fresh region " << i;
    }
    try {
      create(client, "root/too-much");
      ADD_FAILURE() << "more than the pool has was handed out";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::pool_full) << error.what();
    }
    expect_used(client, kFit);
  }

  void expect_nothing_left_behind(Client& client) {
    for (const RegionInfo& region : client.list()) revoke_if_there(client, region.name);
    expect_used(client, 0);
    EXPECT_EQ(scratch_->files(), 0U);
    EXPECT_TRUE(comes_true([&] {
      return held_by_keeper() == held_at_start_ + client.status().keeper.blanks;
    })) << "the keeper holds memory that belongs to nobody";
  }

  [[nodiscard]] bool memory_survives() const {
    return !GetParam().keeper_too || survives_both(GetParam().backend);
  }

  std::unique_ptr<BackendScratch> scratch_;
  std::unique_ptr<BrokerProcess> broker_;
  std::size_t held_at_start_ = 0;
};

using CreateDeathTest = DeathTest;
using RevokeDeathTest = DeathTest;

TEST_P(CreateDeathTest, WhatWasNotAcknowledgedIsGoneOrWhole) {
  start_dying_at(GetParam().step + ":2");  // The first create is the other region's.
  if (HasFailure()) return;
  {
    Client client = connect();
    create_filled(client, "root/other", kOther);
    EXPECT_THROW(create(client, "root/a"), Error);
  }
  restart_with_a_death_at("reattached");
  if (HasFailure()) return;

  Client client = connect();
  if (memory_survives()) {
    const Mapping other(client.open("root/other", Access::read_write));
    EXPECT_TRUE(all_are(other.bytes(), kOther)) << "an acknowledged region lost its bytes";
  } else {
    client.revoke("root/other");  // Told as lost.
  }
  if (live(client, "root/a")) {
    const Mapping whole(client.open("root/a", Access::read_write));
    EXPECT_EQ(whole.size(), kSize);
    EXPECT_TRUE(all_are(whole.bytes(), std::byte{0}));
  }
  revoke_if_there(client, "root/a");
  const std::uint64_t taken = memory_survives() ? 1 : 0;
  expect_used(client, taken);
  expect_only_zeros_in_the_whole_pool(client, taken);
  expect_nothing_left_behind(client);
}

TEST_P(RevokeDeathTest, NoByteOfARevokedRegionIsEverSeenAgain) {
  start_dying_at(GetParam().step);
  if (HasFailure()) return;
  std::optional<Mapping> holder;
  bool acknowledged = false;
  {
    Client client = connect();
    create_filled(client, "root/other", kOther);
    create_filled(client, "root/a", kOld);
    if (GetParam().holder != Holder::nobody) holder.emplace(client.open("root/a", Access::read_write));
    try {
      client.revoke("root/a");
      acknowledged = true;
    } catch (const Error&) {
    }
  }
  if (GetParam().holder == Holder::lets_go) holder.reset();
  restart_with_a_death_at(GetParam().step);
  if (HasFailure()) return;

  Client client = connect();
  const std::optional<RegionInfo> still = live(client, "root/a");
  if (acknowledged) {
    EXPECT_FALSE(still) << "a region is back whose revoke was acknowledged";
  }
  if (still) {
    const Mapping whole(client.open("root/a", Access::read_write));
    EXPECT_TRUE(all_are(whole.bytes(), kOld)) << "a region is live but half revoked";
  }
  revoke_if_there(client, "root/a");
  if (holder) {
    bool leaked = false;
    const auto bytes = holder->bytes();
    // At once: a single old byte is one too many. A fault says as much as a zero.
    (void)guarded(bytes, [&]() noexcept {
      for (const std::byte& one : bytes) leaked = leaked || one == kOld;
    });
    EXPECT_FALSE(leaked) << "a holder reads the region after its revoke";
    if (memory_survives()) {
      EXPECT_GE(client.pools().front().used, 2 * kSize) << "the charge ended while a mapping lived";
    }
    holder.reset();
  }
  if (memory_survives()) {
    const Mapping other(client.open("root/other", Access::read_write));
    EXPECT_TRUE(all_are(other.bytes(), kOther)) << "another region lost its bytes";
  } else {
    client.revoke("root/other");
  }
  const std::uint64_t taken = memory_survives() ? 1 : 0;
  expect_used(client, taken);
  expect_only_zeros_in_the_whole_pool(client, taken);
  expect_nothing_left_behind(client);
}

const char* holder_of(Holder holder) {
  return holder == Holder::stays ? "_held" : holder == Holder::lets_go ? "_held_till_then" : "";
}

std::string name_of(const testing::TestParamInfo<Case>& info) {
  const Case& one = info.param;
  return std::string(to_string(one.backend)) + "_" + one.step + holder_of(one.holder) +
         (one.keeper_too ? "_keeper" : "");
}

/// Where memory goes with its keeper one backend shows what all would.
bool also_without_keeper(Backend backend) {
  return backend == Backend::sealed || backend == Backend::file_on_disk;
}

#ifdef MAPCAP_SANITIZED  // Slower by far: one backend of each kind; the plain build runs them all.
constexpr std::array kTested{Backend::sealed, Backend::file_on_disk};
#else
constexpr auto kTested = kBackends;
#endif

std::vector<Case> creates() {
  std::vector<Case> all;
  for (const Backend backend : kTested) {
    for (const char* step : {"filling", "carved", "held", "recorded", "issued"}) {
      const bool file = survives_both(backend);
      // Memory is filled at its first touch, and files are held by their directory.
      if (step == std::string_view(file ? "held" : "filling")) continue;
      all.push_back({backend, step, Holder::nobody, false});
      if (also_without_keeper(backend)) all.push_back({backend, step, Holder::nobody, true});
    }
  }
  return all;
}

/// What nobody has is revoked in one step: memory that the broker can ask about.
bool ends_at_once(Backend backend) {
  return !survives_both(backend) && backend != Backend::secret;
}

std::vector<Case> revokes() {
  std::vector<Case> all;
  const auto add = [&all](Backend backend, Holder holder, std::initializer_list<const char*> steps) {
    for (const char* step : steps) {
      if (step == std::string_view("dropped") && survives_both(backend)) continue;
      all.push_back({backend, step, holder, false});
      if (also_without_keeper(backend) && holder == Holder::nobody)
        all.push_back({backend, step, holder, true});
    }
  };
  for (const Backend backend : kTested) {
    if (ends_at_once(backend)) {
      add(backend, Holder::nobody, {"erased", "dropped", "freed"});
      add(backend, Holder::lets_go, {"scrubbing", "dropped", "freed", "erased"});
    } else {
      add(backend, Holder::nobody,
          {"revoking", "cut", "draining", "scrubbing", "dropped", "freed", "erased"});
    }
    // Behind these a held region does not come.
    add(backend, Holder::stays, {"revoking", "cut", "draining"});
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(Steps, CreateDeathTest, testing::ValuesIn(creates()), name_of);
INSTANTIATE_TEST_SUITE_P(Steps, RevokeDeathTest, testing::ValuesIn(revokes()), name_of);

// The hook is the other program's alone.
TEST(DeathAtAStep, MapcapdItselfKnowsNothingOfIt) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root: it starts mapcapd";
  BrokerProcess broker;
  broker.set_environment({"MAPCAP_DIE_AT=recorded"});
  broker.start();
  RegionSpec wanted;
  wanted.name = "root/a";
  wanted.size = 4096;
  EXPECT_NO_THROW(broker.connect().create(wanted));
}

}  // namespace
}  // namespace mapcap::test
