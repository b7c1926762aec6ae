// Promise 12: nobody keeps the others from connecting, however many users he can be.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <functional>
#include <list>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/broker_process.h"
#include "tests/support/patience.h"

namespace mapcap::test {
namespace {

using namespace std::chrono_literals;

constexpr uid_t kFirst = 64001;
constexpr int kAtMost = 8;
constexpr int kPerUser = 6;

std::string small_policy() {
  std::string policy = open_policy();
  const std::string given = "max_connections_per_user = 1000\n";
  return policy.replace(policy.find(given), given.size(),
                        "max_connections = " + std::to_string(kAtMost) +
                            "\nmax_connections_per_user = " + std::to_string(kPerUser) + "\n");
}

/// A process of another user that connects so often, and keeps what it gets until it is ended.
class Crowd {
 public:
  /// `use`: what it does with each of them, without waiting.
  Crowd(const BrokerProcess& broker, uid_t uid, int wanted,
        const std::function<void(Client&, int number)>& use = nullptr) {
    std::array<int, 2> news{};
    if (::pipe2(news.data(), O_CLOEXEC) != 0) return;
    child_ = ::fork();
    if (child_ == 0) keep(broker, uid, wanted, use, news[1]);
    ::close(news[1]);
    std::array<int, 2> answer{-1, -1};
    if (::read(news[0], answer.data(), sizeof answer) == sizeof answer) {
      connected = answer[0];
      refusal = static_cast<ErrorCode>(answer[1]);
    }
    ::close(news[0]);
  }
  ~Crowd() {
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
  }
  Crowd(const Crowd&) = delete;
  Crowd& operator=(const Crowd&) = delete;

  int connected = -1;
  ErrorCode refusal{};

 private:
  [[noreturn]] static void keep(const BrokerProcess& broker, uid_t uid, int wanted,
                                const std::function<void(Client&, int number)>& use, int news) {
    if (::setresgid(uid, uid, uid) != 0 || ::setresuid(uid, uid, uid) != 0) ::_exit(1);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    std::vector<Client> clients;
    std::array<int, 2> answer{};
    try {
      for (int i = 0; i < wanted; ++i) clients.push_back(broker.connect());
    } catch (const Error& error) {
      answer[1] = static_cast<int>(error.code());
    }
    for (std::size_t i = 0; use && i < clients.size(); ++i) use(clients[i], static_cast<int>(i));
    answer[0] = static_cast<int>(clients.size());
    (void)!::write(news, answer.data(), sizeof answer);
    for (;;) ::pause();
  }
  pid_t child_ = 0;
};

class ConnectionsTest : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root: it starts mapcapd";
    broker.start();
  }
  /// Connections that user has, as root sees them.
  static std::uint64_t connections_of(Client& root, uid_t uid) {
    for (const QuotaInfo& info : root.quota()) {
      if (info.slot.subject == SubjectKind::user && info.slot.id == uid && info.slot.pool.empty())
        return info.connections;
    }
    return 0;
  }
  BrokerProcess broker{small_policy()};
};

TEST_F(ConnectionsTest, AUserHasAsManyAsThePolicySaysAndNotOneMore) {
  const Crowd crowd(broker, kFirst, kPerUser + 1);
  EXPECT_EQ(crowd.connected, kPerUser);
  EXPECT_EQ(crowd.refusal, ErrorCode::over_quota);
  const Crowd other(broker, kFirst + 1, 1);
  EXPECT_EQ(other.connected, 1);
}

TEST_F(ConnectionsTest, WhoHasNoneGetsInWhileSomebodyHasMany) {
  const Crowd many(broker, kFirst, kPerUser);
  const Crowd some(broker, kFirst + 1, kAtMost - kPerUser);
  EXPECT_EQ(some.connected, kAtMost - kPerUser);
  std::list<Crowd> late;
  for (int i = 0; i < 4; ++i)
    EXPECT_EQ(late.emplace_back(broker, kFirst + 2 + static_cast<uid_t>(i), 1).connected, 1);
  Client root = broker.connect();
  // What made room ends a moment later.
  EXPECT_TRUE(comes_true([&] { return connections_of(root, kFirst) <= 2; }));
  EXPECT_EQ(connections_of(root, kFirst), 2U) << "he had most";
  EXPECT_EQ(connections_of(root, kFirst + 1), 2U);
  for (uid_t i = 0; i < 4; ++i) EXPECT_EQ(connections_of(root, kFirst + 2 + i), 1U);
}

TEST_F(ConnectionsTest, AmongManyUsersWithOneEachNobodyYieldsAndRootGetsInAllTheSame) {
  std::list<Crowd> crowds;
  for (uid_t i = 0; i < kAtMost; ++i) EXPECT_EQ(crowds.emplace_back(broker, kFirst + i, 1).connected, 1);
  const Crowd late(broker, kFirst + kAtMost, 1);
  EXPECT_EQ(late.connected, 0);
  EXPECT_EQ(late.refusal, ErrorCode::exhausted);
  Client root = broker.connect();
  for (uid_t i = 0; i < kAtMost; ++i) EXPECT_EQ(connections_of(root, kFirst + i), 1U);
}

TEST_F(ConnectionsTest, WhoLetsAllHisConnectionsWaitForHoldersGivesThemUpAllTheSame) {
  Client root = broker.connect();
  std::vector<Grant> held;
  for (int i = 0; i < kPerUser; ++i) {
    RegionSpec wanted;
    wanted.name = "a/" + std::to_string(i);
    wanted.size = 4096;
    wanted.lifetime = Lifetime::persistent();
    wanted.mode = 0666;
    EXPECT_EQ(as_user(kFirst,
                      [&] {
                        broker.connect().create(wanted);
                        return 0;
                      }),
              0);
    held.push_back(root.open(wanted.name, Access::read_only));
  }
  std::optional<Crowd> drains;
  drains.emplace(broker, kFirst, kPerUser, [](Client& client, int number) {
    std::thread([&client, number] {
      try {
        RevokeOptions options;
        options.drain = true;
        client.revoke("a/" + std::to_string(number), options);
      } catch (const Error&) {
        // Its connection was given up.
      }
    }).detach();
  });
  ASSERT_EQ(drains->connected, kPerUser);
  const auto draining = [&root] {
    int count = 0;
    for (const RegionInfo& region : root.list()) count += region.state == RegionState::live ? 0 : 1;
    return count;
  };
  EXPECT_TRUE(comes_true([&] { return draining() >= kPerUser; }));
  ASSERT_EQ(draining(), kPerUser);
  // With root that is seven of eight.
  std::list<Crowd> late;
  for (int i = 0; i < 4; ++i)
    EXPECT_EQ(late.emplace_back(broker, kFirst + 1 + static_cast<uid_t>(i), 1).connected, 1);
  EXPECT_EQ(draining(), kPerUser) << "the drains go on";
  // The crowds are children, which have what was held when they were forked.
  drains.reset();
  late.clear();
  held.clear();
  EXPECT_TRUE(comes_true([&] { return root.list().empty(); })) << "and end with the holders";
}

}  // namespace
}  // namespace mapcap::test
