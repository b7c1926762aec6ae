// Nothing is lost as long as one holder of the memory lives: deaths one after another, stops and starts, with
// thousands of regions that others hold and write, broker and keeper on one processor.
#include <poll.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <thread>

#include "tests/support/broker_process.h"
#include "tests/support/hidden_fuse.h"
#include "tests/support/patience.h"

namespace mapcap::test {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kPage = 4096;
constexpr std::array<uid_t, 3> kUsers = {61001, 61002, 61003};

/// What a busy machine does by chance: the keeper has no turn while the broker sends.
void stay_on_one_processor() {
  cpu_set_t all;
  ::sched_getaffinity(0, sizeof all, &all);
  cpu_set_t one;
  CPU_ZERO(&one);
  for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; ++cpu) {
    if (CPU_ISSET(cpu, &all)) CPU_SET(cpu, &one);
  }
  ::sched_setaffinity(0, sizeof one, &one);
}

/// A user with regions, each with a grant that is held and a mapping that is written. Asked byte by byte: 'c'
/// compares every byte with what it wrote and writes the next; the end of the socket ends it.
class User {
 public:
  User(const BrokerProcess& broker, uid_t uid, int regions) {
    int ends[2] = {-1, -1};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    socket_ = Fd(ends[0]);
    thread_ = std::thread([&broker, uid, regions, theirs = ends[1], ours = ends[0]] {
      EXPECT_EQ(as_user(uid,
                        [&] {
                          ::close(ours);
                          return live(broker, uid, regions, theirs);
                        }),
                0)
          << "user " << uid;
      ::close(theirs);
    });
  }
  ~User() {
    ::shutdown(socket_.get(), SHUT_RDWR);
    thread_.join();
  }
  User(const User&) = delete;
  User& operator=(const User&) = delete;

  /// True when it says so.
  [[nodiscard]] bool says_ready() const { return answer() == 'r'; }
  [[nodiscard]] bool finds_every_byte() const {
    return ::write(socket_.get(), "c", 1) == 1 && answer() == 'k';
  }

 private:
  [[nodiscard]] char answer() const {
    pollfd readable{socket_.get(), POLLIN, 0};
    char byte = 0;
    if (::poll(&readable, 1, kPatienceMs) != 1 || ::read(socket_.get(), &byte, 1) != 1) return 0;
    return byte;
  }

  static int live(const BrokerProcess& broker, uid_t uid, int regions, int socket) {
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
    ConnectOptions options;
    options.deadline = kPatience;
    Client client = broker.connect(options);
    std::deque<Mapping> mappings;
    for (int i = 0; i < regions; ++i) {
      RegionSpec spec;
      spec.name = "u" + std::to_string(uid) + "/r" + std::to_string(i);
      spec.size = kPage;
      spec.lifetime = Lifetime::persistent();
      mappings.emplace_back(client.create(spec, Access::read_write));
    }
    std::uint64_t round = 0;
    const auto write_all = [&] {
      ++round;
      for (std::size_t i = 0; i < mappings.size(); ++i) {
        auto* words = mappings[i].writable_at<std::uint64_t>(0);
        for (std::size_t word = 0; word < kPage / sizeof *words; ++word)
          words[word] = round * 1'000'003 + i + word;
      }
    };
    write_all();
    if (::write(socket, "r", 1) != 1) return 3;
    char command = 0;
    while (::read(socket, &command, 1) == 1) {
      char verdict = 'k';
      for (std::size_t i = 0; i < mappings.size(); ++i) {
        const auto* words = mappings[i].at<std::uint64_t>(0);
        for (std::size_t word = 0; word < kPage / sizeof *words; ++word) {
          if (words[word] != round * 1'000'003 + i + word) verdict = 'x';
        }
      }
      write_all();
      if (::write(socket, &verdict, 1) != 1) return 4;
    }
    return 0;
  }

  Fd socket_;
  std::thread thread_;
};

struct Kind {
  const char* name;
  const char* pool_keys;
  bool needs_fuse;
};

struct Plan {
  Kind kind;
  int regions;
};

class NoLoss : public testing::TestWithParam<Plan> {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root: it starts mapcapd";
    ::sched_getaffinity(0, sizeof before_, &before_);
    stay_on_one_processor();
  }
  void TearDown() override {
    if (::geteuid() == 0) ::sched_setaffinity(0, sizeof before_, &before_);
  }

  /// The keeper has everything: from here on the broker may die. Its descriptors tell, and the broker's word
  /// that it serves: a keeper that was forked a moment ago still has its parent's, and is about to close them.
  static bool everything_is_held(const BrokerProcess& broker, std::uint64_t regions) {
    return comes_true([&] {
      const BrokerStatus status = broker.connect().status();
      return status.keeper.serving && status.unguarded == 0 && memory_of(broker.keeper_pid()) == regions;
    });
  }
  static std::uint64_t memory_of(pid_t keeper) {
    std::error_code failed;
    std::uint64_t memory = 0;
    std::filesystem::directory_iterator fd("/proc/" + std::to_string(keeper) + "/fd", failed);
    for (; !failed && fd != std::filesystem::directory_iterator(); fd.increment(failed)) {
      std::error_code closed;
      const std::string target = std::filesystem::read_symlink(fd->path(), closed).string();
      memory += target == "/memfd:mapcap (deleted)" || target.find("secretmem") != std::string::npos ? 1 : 0;
    }
    return memory;
  }

  static void kill_keeper_and_wait(const BrokerProcess& broker, std::uint64_t regions) {
    const pid_t before = broker.keeper_pid();
    ::kill(before, SIGKILL);
    EXPECT_TRUE(comes_true([&] {
      const pid_t now = broker.keeper_pid();
      return now != 0 && now != before;
    }));
    EXPECT_TRUE(everything_is_held(broker, regions));
  }

  static void expect_nothing_lost(const BrokerProcess& broker, const std::deque<User>& users,
                                  std::uint64_t regions, const char* after) {
    for (const User& user : users) EXPECT_TRUE(user.finds_every_byte()) << "bytes, after " << after;
    Client client = broker.connect();
    std::uint64_t live = 0;
    for (const RegionInfo& region : client.list()) live += region.state == RegionState::live ? 1 : 0;
    EXPECT_EQ(live, regions) << after << ": " << broker.log();
    EXPECT_EQ(client.pools().front().used, regions * kPage) << "charges, after " << after;
    EXPECT_TRUE(everything_is_held(broker, regions)) << after;
  }

 private:
  cpu_set_t before_{};
};

// Promise 9
TEST_P(NoLoss, DeathsOneAfterAnotherStopsAndStartsLeaveEverythingWhereItIs) {
  const auto [kind, regions] = GetParam();
  BrokerProcess broker(open_policy("", kind.pool_keys));
  if (!broker.start_if_it_lives())
    GTEST_SKIP() << "this machine has no " << kind.name << ": " << broker.log();
  std::deque<User> users;
  int left = regions;
  for (std::size_t i = 0; i < kUsers.size(); ++i) {
    const int share = i + 1 == kUsers.size() ? left : regions / static_cast<int>(kUsers.size());
    if (share > 0) users.emplace_back(broker, kUsers.at(i), share);
    left -= share;
  }
  for (const User& user : users) ASSERT_TRUE(user.says_ready()) << broker.log();
  const auto count = static_cast<std::uint64_t>(regions);

  kill_keeper_and_wait(broker, count);
  broker.kill_broker();
  broker.start();
  expect_nothing_lost(broker, users, count, "the death of the keeper, then of the broker");

  broker.kill_broker();
  broker.start();
  kill_keeper_and_wait(broker, count);
  broker.kill_broker();
  broker.start();
  expect_nothing_lost(broker, users, count,
                      "the death of the broker, then of the keeper, then of the broker");

  EXPECT_EQ(broker.terminate(), 0);
  broker.start();
  expect_nothing_lost(broker, users, count, "SIGTERM");
  EXPECT_NE(broker.log().find("stays with the keeper"), std::string::npos);

  broker.kill_broker();
  {
    const HiddenFuse hidden;
    if (kind.needs_fuse) {
      EXPECT_FALSE(broker.start_if_it_lives()) << "it cannot confine without FUSE";
    } else {
      broker.start();
      expect_nothing_lost(broker, users, count, "a start without FUSE");
      broker.kill_broker();
    }
  }
  broker.start();
  expect_nothing_lost(broker, users, count, "FUSE that was missing for a while");
  EXPECT_EQ(broker.log().find("lost, since"), std::string::npos) << broker.log();

  // What is held is known to be held: a drain waits for its holder, who stays.
  Client client = broker.connect();
  const std::string name = client.list().front().name;
  const auto asked = std::chrono::steady_clock::now();
  client.revoke(name, {true, 1s, {}});
  EXPECT_GE(std::chrono::steady_clock::now() - asked, 1s) << "somebody holds it";
  EXPECT_EQ(client.pools().front().used, count * kPage) << "whoever holds a cut region is still charged";
  users.clear();
  EXPECT_TRUE(comes_true([&] { return client.pools().front().used != count * kPage; }));
  EXPECT_EQ(client.pools().front().used, (count - 1) * kPage) << "the last holder is gone";

  const CommandResult revoked = mapcap(broker, {"revoke", "**", "--yes"});
  EXPECT_EQ(revoked.status, count > 1 ? 0 : 1) << revoked.err;
  EXPECT_TRUE(comes_true([&] { return client.pools().front().regions == 0; }));
  EXPECT_EQ(broker.terminate(), 0);
  EXPECT_TRUE(comes_true([&] { return broker.keeper_pid() == 0; }))
      << "a keeper that has nothing to keep ends with the broker";
}

TEST(LostRegions, AreToldInOneLineAndRevokedByAGlob) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root: it starts mapcapd";
  BrokerProcess broker;
  broker.start();
  {
    Client client = broker.connect();
    for (int i = 0; i < 40; ++i) {
      RegionSpec spec;
      spec.name = "many/r" + std::to_string(i);
      spec.size = kPage;
      spec.lifetime = Lifetime::persistent();
      client.create(spec);
    }
  }
  broker.kill_both();
  broker.start();
  const std::string log = broker.log();
  EXPECT_NE(log.find("40 regions of 1 user are lost"), std::string::npos) << log;
  EXPECT_EQ(log.find("region many/"), std::string::npos) << "one line for all of them: " << log;
  EXPECT_EQ(broker.connect().list("many/**").size(), 40U);
  const CommandResult unasked = mapcap(broker, {"revoke", "many/**"});
  EXPECT_EQ(unasked.status, 1);
  EXPECT_NE(unasked.err.find("40 regions"), std::string::npos) << unasked.err;
  EXPECT_EQ(broker.connect().list("many/**").size(), 40U) << "nobody said yes";
  const CommandResult revoked = mapcap(broker, {"revoke", "many/**", "--yes"});
  EXPECT_EQ(revoked.status, 0) << revoked.err;
  EXPECT_NE(revoked.out.find("revoked 40 regions"), std::string::npos) << revoked.out;
  EXPECT_TRUE(broker.connect().list("many/**").empty());
}

constexpr Kind kClone{"clone", "", true};
constexpr Kind kSealed{"sealed", "confinement = \"sealed\"\n", false};
constexpr Kind kNative{"native", "secret = true\n", false};

int most() {
#ifdef MAPCAP_SANITIZED
  const int usual = 300;
#else
  const int usual = 5000;
#endif
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nobody sets it.
  const char* asked = std::getenv("MAPCAP_NO_LOSS_REGIONS");
  return asked != nullptr ? std::atoi(asked) : usual;
}

std::string name_of(const testing::TestParamInfo<Plan>& plan) {
  return plan.param.kind.name + std::to_string(plan.param.regions);
}

INSTANTIATE_TEST_SUITE_P(One, NoLoss, testing::Values(Plan{kClone, 1}, Plan{kSealed, 1}, Plan{kNative, 1}),
                         name_of);
INSTANTIATE_TEST_SUITE_P(Many, NoLoss,
                         testing::Values(Plan{kClone, 299}, Plan{kSealed, 299}, Plan{kNative, 299}), name_of);
INSTANTIATE_TEST_SUITE_P(Thousands, NoLoss,
                         testing::Values(Plan{kClone, most()}, Plan{kSealed, most()}, Plan{kNative, most()}),
                         name_of);

}  // namespace
}  // namespace mapcap::test
