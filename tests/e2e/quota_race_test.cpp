// Promise 7: sixteen users race for the last byte; the sum never exceeds the limit at any instant, and
// exactly the right number get through.
#include <grp.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <new>
#include <thread>

#include "tests/support/broker_process.h"

namespace mapcap::test {
namespace {

using namespace std::chrono_literals;

constexpr int kUsers = 16;
constexpr uid_t kFirst = 64100;
constexpr gid_t kShared = 64050;
constexpr std::uint64_t kRegion = 65536;
constexpr std::uint64_t kFit = 37;  // No multiple of the number of users.

struct Race {
  std::atomic<bool> go{false};
  std::atomic<int> ready{0};
  std::atomic<int> through{0};
  std::atomic<int> refused{0};
  std::atomic<int> odd{0};
};

class QuotaRaceTest : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root: it starts mapcapd";
    void* memory = ::mmap(nullptr, sizeof(Race), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    race_ = new (memory) Race;
  }
  void TearDown() override {
    if (race_ != nullptr) ::munmap(race_, sizeof(Race));
  }

  /// Each user creates regions until it is refused; `largest` is the most that was ever seen in use.
  std::uint64_t run(const BrokerProcess& broker, ErrorCode refusal, bool in_shared_group) {
    std::vector<pid_t> users;
    for (int user = 0; user < kUsers; ++user) {
      const pid_t child = ::fork();
      if (child != 0) {
        users.push_back(child);
        continue;
      }
      const uid_t uid = kFirst + static_cast<uid_t>(user);
      const gid_t gid = in_shared_group ? kShared : uid;
      if (::setresgid(gid, gid, gid) != 0 || ::setresuid(uid, uid, uid) != 0) ::_exit(1);
      ::_exit(race(broker, user, refusal));
    }
    while (race_->ready < kUsers) std::this_thread::sleep_for(1ms);
    Client watcher = broker.connect();
    race_->go = true;
    std::uint64_t largest = 0;
    while (race_->refused + race_->odd < kUsers) largest = std::max(largest, watcher.pools().front().used);
    for (const pid_t user : users) ::waitpid(user, nullptr, 0);
    return std::max(largest, watcher.pools().front().used);
  }

  int race(const BrokerProcess& broker, int user, ErrorCode refusal) {
    try {
      Client client = broker.connect();
      ++race_->ready;
      while (!race_->go) std::this_thread::yield();
      for (int i = 0;; ++i) {
        RegionSpec wanted;
        wanted.name = "race/" + std::to_string(user) + "-" + std::to_string(i);
        wanted.size = kRegion;
        wanted.lifetime = Lifetime::persistent();
        client.create(wanted);
        ++race_->through;
      }
    } catch (const Error& error) {
      if (error.code() != refusal) {
        std::fprintf(stderr, "user %d: %s\n", user, error.what());
        ++race_->odd;
        return 1;
      }
      ++race_->refused;
    }
    return 0;
  }

  /// Connects as a user who is in the shared group (by primary or supplementary group) or not, and makes one region.
  /// 0: made; 1: over quota; 2: anything else.
  static int one_life(const BrokerProcess& broker, int user, bool primary, bool member,
                      const std::string& name) {
    const pid_t child = ::fork();
    if (child == 0) {
      const uid_t uid = kFirst + static_cast<uid_t>(user);
      const gid_t gid = member && primary ? kShared : uid;
      const gid_t more = kShared;
      if (::setgroups(member && !primary ? 1 : 0, &more) != 0 || ::setresgid(gid, gid, gid) != 0 ||
          ::setresuid(uid, uid, uid) != 0)
        ::_exit(2);
      try {
        RegionSpec wanted;
        wanted.name = name;
        wanted.size = kRegion;
        wanted.lifetime = Lifetime::persistent();
        broker.connect().create(wanted);
        ::_exit(0);
      } catch (const Error& error) {
        ::_exit(error.code() == ErrorCode::over_quota ? 1 : 2);
      }
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 2;
  }

  static std::uint64_t used_by_the_group(const BrokerProcess& broker) {
    for (const QuotaInfo& quota : broker.connect().quota()) {
      if (quota.slot.subject == SubjectKind::group && quota.slot.id == kShared && quota.slot.pool.empty())
        return quota.bytes;
    }
    return 0;
  }

  Race* race_ = nullptr;
};

TEST_F(QuotaRaceTest, ForTheLastBytesOfAPool) {
  BrokerProcess broker(
      R"([pool.dram]
backing = "memory"
capacity = ")" +
      std::to_string(kFit * kRegion + kRegion - 4096) +
      "\"\n[[rule]]\nany = true\nnames = [\"**\"]\n[[rule]]\nany = true\nverbs = [\"pools\"]\n");
  broker.start();
  EXPECT_EQ(run(broker, ErrorCode::pool_full, false), kFit * kRegion);
  EXPECT_EQ(race_->through, static_cast<int>(kFit));
  EXPECT_EQ(race_->odd, 0);
}

TEST_F(QuotaRaceTest, ForTheLastBytesOfAGroup) {
  BrokerProcess broker(open_policy("[[quota]]\ngroup = " + std::to_string(kShared) +
                                   "\nbytes = " + std::to_string(kFit * kRegion + kRegion - 1) + "\n"));
  broker.start();
  EXPECT_EQ(run(broker, ErrorCode::over_quota, true), kFit * kRegion);
  EXPECT_EQ(race_->through, static_cast<int>(kFit));
  EXPECT_EQ(race_->odd, 0);
}

/// What changes of membership do: each charge stays in the groups that its maker had when he made it. Sixteen users come
/// and go, each as a member and as none by turns.
TEST_F(QuotaRaceTest, OfAGroupThatItsMembersJoinAndLeave) {
  BrokerProcess broker(open_policy("[[quota]]\ngroup = " + std::to_string(kShared) +
                                   "\nbytes = " + std::to_string(kFit * kRegion + kRegion - 1) + "\n"));
  broker.start();
  std::vector<pid_t> users;
  for (int user = 0; user < kUsers; ++user) {
    const pid_t child = ::fork();
    if (child != 0) {
      users.push_back(child);
      continue;
    }
    int odd = 0;
    for (int life = 0;; ++life) {
      const std::string name = "race/" + std::to_string(user) + "-" + std::to_string(life);
      const bool member = life % 2 == 0;
      const int outcome = one_life(broker, user, user % 2 == 0, member, name);
      if (member && outcome == 1) break;
      odd += outcome == 0 ? 0 : 1;  // Nobody else is bound.
      race_->through += member && outcome == 0 ? 1 : 0;
      if (life > 2 * static_cast<int>(kFit)) break;
    }
    ++race_->refused;
    ::_exit(odd == 0 ? 0 : 1);
  }
  std::uint64_t largest = 0;
  while (race_->refused < kUsers) {
    largest = std::max(largest, used_by_the_group(broker));
    std::this_thread::sleep_for(1ms);
  }
  for (const pid_t user : users) {
    int status = 0;
    ::waitpid(user, &status, 0);
    EXPECT_EQ(status, 0);
  }
  EXPECT_EQ(race_->through, static_cast<int>(kFit));
  EXPECT_EQ(largest, kFit * kRegion);
  EXPECT_EQ(used_by_the_group(broker), kFit * kRegion);
  // What he made as a member goes out of the group's slot with the region, whoever ends it, and what he made as none
  // never was in it.
  Client administrator = broker.connect();
  administrator.revoke("race/0-1");
  EXPECT_EQ(one_life(broker, 1, true, true, "race/late"), 1);
  administrator.revoke("race/0-0");
  for (int tries = 0; tries < 4000 && used_by_the_group(broker) == kFit * kRegion; ++tries)
    std::this_thread::sleep_for(5ms);
  EXPECT_EQ(one_life(broker, 1, true, true, "race/late"), 0);
  EXPECT_EQ(used_by_the_group(broker), kFit * kRegion);
}

TEST_F(QuotaRaceTest, ForTheLastRegionOfEachUser) {
  BrokerProcess broker(open_policy("[[quota]]\nany = true\nregions = 3\n"));
  broker.start();
  run(broker, ErrorCode::over_quota, false);
  EXPECT_EQ(race_->through, 3 * kUsers);
  EXPECT_EQ(race_->odd, 0);
}

}  // namespace
}  // namespace mapcap::test
