// Promises 7, 8 and 9: broker, keeper or both are killed at random moments while four clients create, open,
// map and revoke at full speed. After each restart exactly what was acknowledged is there, charges add up, no
// mapping has broken, and nobody hangs.
//
// Each client keeps its own books in memory shared with the test: what it was told exists and what was in
// flight. The library repeats a call that the kill interrupted, so when the clients have come to rest after a
// restart nothing is in flight, and the broker's list must equal the sum of the books.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <map>
#include <new>
#include <random>
#include <thread>

#include "tests/support/broker_process.h"
#include "tests/support/patience.h"

namespace mapcap::test {
namespace {

using namespace std::chrono_literals;

constexpr int kClients = 4;
constexpr int kSlots = 6;  // Few, so that names are used again and again.
constexpr std::uint64_t kRegion = 16384;

enum class Slot : int { absent, live };
enum class Phase : int { running, resting, stop };

struct Books {
  std::array<std::atomic<Slot>, kSlots> slots{};
  std::atomic<bool> at_rest{false};
  std::atomic<int> operations{0};
  std::atomic<int> failures{0};
  char what[256] = "";
};

struct Shared {
  std::atomic<Phase> phase{Phase::running};
  std::array<Books, kClients> books;
};

std::string name_of(int client, int slot) {
  return "c" + std::to_string(client) + "/r" + std::to_string(slot);
}

class Worker {
 public:
  Worker(const BrokerProcess& broker, Shared& shared, int number)
      : shared_(shared),
        books_(shared.books.at(static_cast<std::size_t>(number))),
        number_(number),
        random_(static_cast<unsigned>(number)) {
    ConnectOptions options;
    options.deadline = options.reconnect_within = options.wait_for_broker = kPatience;
    client_.emplace(broker.connect(options));
  }

  int run() {
    RegionSpec wanted = spec("keep/" + std::to_string(number_));
    kept_.emplace(client_->create(wanted, Access::read_write));
    while (shared_.phase != Phase::stop) {
      if (shared_.phase == Phase::resting) {
        books_.at_rest = true;
        std::this_thread::sleep_for(1ms);
        continue;
      }
      books_.at_rest = false;
      try {
        step();
        ++books_.operations;
      } catch (const std::exception& error) {
        std::snprintf(books_.what, sizeof books_.what, "%s", error.what());
        ++books_.failures;
        return 1;
      }
    }
    return 0;
  }

 private:
  RegionSpec spec(const std::string& name) {
    RegionSpec wanted;
    wanted.name = name;
    wanted.size = kRegion;
    wanted.lifetime = Lifetime::persistent();
    wanted.seal = random_() % 2 == 0 ? SealKind::sealed : SealKind::revocable;
    return wanted;
  }

  void step() {
    touch_kept();
    const int slot = static_cast<int>(random_() % kSlots);
    std::atomic<Slot>& book = books_.slots.at(static_cast<std::size_t>(slot));
    const std::string name = name_of(number_, slot);
    if (book == Slot::absent) {
      create(name);
      book = Slot::live;
    } else if (random_() % 3 == 0) {
      revoke(name);
      book = Slot::absent;
    } else {
      open(name);
    }
  }

  /// The mapping that this process made at its start must go on through everything.
  void touch_kept() {
    auto* counter = kept_->writable_at<std::uint64_t>(0);
    if (*counter != kept_count_) throw std::runtime_error("a mapping lost its contents");
    *counter = ++kept_count_;
  }

  void create(const std::string& name) {
    try {
      Mapping mapping(client_->create(spec(name), Access::read_write));
      if (*mapping.at<std::uint64_t>(0) != 0) throw std::runtime_error("a fresh region is not zero");
      *mapping.writable_at<std::uint64_t>(0) = 0x600d;
    } catch (const Error& error) {
      // The answer was lost with the broker, and the name is ours alone: the create had been carried out.
      if (error.code() != ErrorCode::exists) throw;
    }
  }

  void revoke(const std::string& name) {
    try {
      client_->revoke(name);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::not_found) throw;
    }
  }

  void open(const std::string& name) {
    const auto until = std::chrono::steady_clock::now() + kPatience;
    for (;;) {
      try {
        const Mapping mapping(client_->open(name, Access::read_only));
        (void)*mapping.at<std::uint64_t>(0);
        return;
      } catch (const Error& error) {
        if (error.code() == ErrorCode::lost) return;
        // While a keeper is being replaced no grant can be issued: the broker says so, and is asked again.
        const bool passing = error.code() == ErrorCode::unavailable || error.code() == ErrorCode::timed_out;
        if (!passing || std::chrono::steady_clock::now() > until) throw;
        std::this_thread::sleep_for(10ms);
      }
    }
  }

  Shared& shared_;
  Books& books_;
  int number_;
  std::mt19937 random_;
  std::optional<Client> client_;
  std::optional<Mapping> kept_;
  std::uint64_t kept_count_ = 0;
};

enum class Victim { broker, keeper, both };

struct Plan {
  Victim victim;
  const char* state_parent;
  int rounds;
};

class KillTest : public testing::TestWithParam<Plan> {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root: it starts mapcapd";
    void* memory = ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    shared_ = new (memory) Shared;
  }
  void TearDown() override {
    for (const pid_t worker : workers_) ::kill(worker, SIGKILL);
    for (const pid_t worker : workers_) ::waitpid(worker, nullptr, 0);
    if (shared_ != nullptr) ::munmap(shared_, sizeof(Shared));
  }

  void start_workers(const BrokerProcess& broker) {
    for (int number = 0; number < kClients; ++number) {
      const pid_t child = ::fork();
      if (child == 0) {
        int status = 1;
        try {
          status = Worker(broker, *shared_, number).run();
        } catch (const std::exception& error) {
          std::fprintf(stderr, "client %d: %s\n", number, error.what());
          ++shared_->books.at(static_cast<std::size_t>(number)).failures;
        }
        ::_exit(status);
      }
      workers_.push_back(child);
    }
  }

  bool rest() {
    for (Books& books : shared_->books) books.at_rest = false;
    shared_->phase = Phase::resting;
    return comes_true([this] {
      bool all = true;
      for (const Books& books : shared_->books) all = all && (books.at_rest || books.failures > 0);
      return all;
    });
  }

  /// Returns when every client has done something since it was called, or failed.
  bool everybody_works() {
    std::array<int, kClients> before{};
    for (std::size_t i = 0; i < before.size(); ++i) before.at(i) = shared_->books.at(i).operations;
    return comes_true([&] {
      bool all = true;
      for (std::size_t i = 0; i < before.size(); ++i) {
        const Books& books = shared_->books.at(i);
        all = all && (books.operations > before.at(i) || books.failures > 0);
      }
      return all;
    });
  }

  void expect_nobody_failed() const {
    for (const Books& books : shared_->books) ASSERT_EQ(books.failures, 0) << books.what;
  }

  /// The broker's list against the clients' books, and the pool's books against the list.
  void expect_books_match(const BrokerProcess& broker, bool memory_survived) const {
    Client client = broker.connect();
    std::map<std::string, RegionInfo> live;
    std::uint64_t charged = 0;
    std::uint64_t held = 0;
    (void)comes_true([&] {
      live.clear();
      charged = held = 0;
      const std::uint64_t used_before = client.pools().front().used;
      for (const RegionInfo& region : client.list()) {
        held += region.held;
        if (region.state == RegionState::live || region.state == RegionState::lost)
          live[region.name] = region;
      }
      charged = client.pools().front().used;
      // Reclaim may end a charge between the two questions.
      return charged == held && used_before == charged;
    });
    EXPECT_EQ(charged, held) << "the pool's charge is not the sum of its regions'";
    for (int number = 0; number < kClients; ++number) {
      for (int slot = 0; slot < kSlots; ++slot) {
        const bool told =
            shared_->books.at(static_cast<std::size_t>(number)).slots.at(static_cast<std::size_t>(slot)) ==
            Slot::live;
        EXPECT_EQ(live.contains(name_of(number, slot)), told)
            << name_of(number, slot)
            << (told ? " was acknowledged and is gone" : " was not acknowledged and is there");
      }
      const auto kept = live.find("keep/" + std::to_string(number));
      ASSERT_NE(kept, live.end());
      if (memory_survived) {
        EXPECT_EQ(kept->second.state, RegionState::live);
      }
    }
  }

  Shared* shared_ = nullptr;
  std::vector<pid_t> workers_;
};

TEST_P(KillTest, WhatWasAcknowledgedIsThereAndNothingElse) {
  const Plan plan = GetParam();
  BrokerProcess broker(open_policy(), plan.state_parent);
  broker.start();
  start_workers(broker);
  std::mt19937 random(7);  // Fixed: the moments differ anyway with the machine's speed.
  bool memory_survived = true;
  for (int round = 0; round < plan.rounds; ++round) {
    ASSERT_TRUE(everybody_works()) << "a client did nothing before round " << round;
    expect_nobody_failed();
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 40000));
    const pid_t keeper = broker.keeper_pid();
    if (plan.victim == Victim::broker) broker.kill_broker();
    if (plan.victim == Victim::keeper) broker.kill_keeper();
    if (plan.victim == Victim::both) broker.kill_both();
    if (plan.victim != Victim::keeper) {
      broker.start();
    } else {
      EXPECT_TRUE(comes_true([&] {
        const pid_t now = broker.keeper_pid();
        return now != 0 && now != keeper;
      }));
    }
    if (plan.victim == Victim::both) memory_survived = false;
    ASSERT_TRUE(rest()) << "a client hung in round " << round << ": " << broker.log();
    expect_nobody_failed();
    expect_books_match(broker, memory_survived);
    ASSERT_TRUE(stuck_processes().empty()) << "a process is stuck in the kernel";
    if (HasFailure()) FAIL() << "round " << round << "\n" << broker.log();
    shared_->phase = Phase::running;
  }
  shared_->phase = Phase::stop;
  int operations = 0;
  for (const pid_t worker : workers_) {
    int status = 0;
    ::waitpid(worker, &status, 0);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "a client died: " << status;
  }
  workers_.clear();
  for (const Books& books : shared_->books) operations += books.operations;
  RecordProperty("operations", operations);
  EXPECT_GE(operations, plan.rounds * kClients) << "the clients hardly did anything: the test shows nothing";
}

#ifdef MAPCAP_SANITIZED  // Ten times slower, and the plain build runs the whole number.
constexpr int kFifty = 10;
constexpr int kTwoHundred = 20;
#else
constexpr int kFifty = 50;
constexpr int kTwoHundred = 200;
#endif
INSTANTIATE_TEST_SUITE_P(Broker, KillTest, testing::Values(Plan{Victim::broker, "/tmp", kFifty}));
INSTANTIATE_TEST_SUITE_P(Keeper, KillTest, testing::Values(Plan{Victim::keeper, "/tmp", kFifty}));
INSTANTIATE_TEST_SUITE_P(Both, KillTest, testing::Values(Plan{Victim::both, "/tmp", kFifty}));
INSTANTIATE_TEST_SUITE_P(BrokerOnTmpfs, KillTest,
                         testing::Values(Plan{Victim::broker, "/dev/shm", kTwoHundred}));
INSTANTIATE_TEST_SUITE_P(BrokerOnDisk, KillTest,
                         testing::Values(Plan{Victim::broker, "/var/tmp", kTwoHundred}));

}  // namespace
}  // namespace mapcap::test
