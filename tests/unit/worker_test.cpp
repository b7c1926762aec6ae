// Promise 12: nobody waits for all that another has queued for the threads.
#include "broker/wait/worker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "tests/support/loop_harness.h"
#include "tests/support/patience.h"

namespace mapcap::broker {
namespace {

using namespace std::chrono_literals;

constexpr uid_t kGreedy = 5;
constexpr uid_t kOther = 6;

/// What happened, in its order; whoever waits for something gives up some time, so that nothing hangs.
class Story {
 public:
  void note(const std::string& what) {
    {
      const std::lock_guard lock(mutex_);
      events_.push_back(what);
    }
    changed_.notify_all();
  }
  bool await(const std::string& what) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, test::kPatience, [&] { return has(what); });
  }
  [[nodiscard]] bool happened(const std::string& what) {
    const std::lock_guard lock(mutex_);
    return has(what);
  }
  std::vector<std::string> events() {
    const std::lock_guard lock(mutex_);
    return events_;
  }

 private:
  [[nodiscard]] bool has(const std::string& what) const {
    return std::find(events_.begin(), events_.end(), what) != events_.end();
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> events_;
};

class WorkerTest : public testing::Test {
 protected:
  test::VirtualTime time_;
  Loop loop_{time_};
  Story story_;
};

TEST_F(WorkerTest, OneUserHasAQuarterOfTheThreadsHoweverMuchHeQueues) {
  std::atomic<int> begun = 0;
  {
    Worker worker(loop_, 8);
    for (int i = 0; i < 20; ++i) {
      worker.submit(kGreedy, [&] {
        ++begun;
        EXPECT_TRUE(story_.await("the other's work"));
      });
    }
    for (uid_t other = kOther; other < kOther + 3; ++other) {
      worker.submit(other, [&, other] {
        story_.note("work of " + std::to_string(other));
        EXPECT_TRUE(story_.await("the other's work"));
      });
      EXPECT_TRUE(story_.await("work of " + std::to_string(other)));
    }
    EXPECT_LE(begun, 2);
    story_.note("the other's work");
  }
  EXPECT_EQ(begun, 20) << "and all of it in the end";
}

TEST_F(WorkerTest, LongWorkStandsAsideForOthersAndGoesOn) {
  {
    Worker worker(loop_, 1);
    worker.submit(kGreedy, [&] {
      story_.note("long work begins");
      EXPECT_TRUE(test::comes_true([&] {
        time_.pass(100us);
        Worker::pause();
        return story_.happened("short work");
      }));
      story_.note("long work ends");
    });
    worker.submit(kGreedy, [&] { story_.note("more of it"); });
    EXPECT_TRUE(story_.await("long work begins"));
    worker.submit(kOther, [&] { story_.note("short work"); });
  }
  EXPECT_THAT(story_.events(),
              testing::ElementsAre("long work begins", "short work", "long work ends", "more of it"));
}

TEST_F(WorkerTest, WhoHasHadLeastIsNext) {
  {
    Worker worker(loop_, 1);
    worker.submit(kGreedy, [&] {
      EXPECT_TRUE(story_.await("all is queued"));
      time_.pass(1ms);
    });
    for (const char* one : {"greedy 1", "greedy 2"}) worker.submit(kGreedy, [&, one] { story_.note(one); });
    worker.submit(kOther, [&] { story_.note("other"); });
    worker.submit(std::nullopt, [&] { story_.note("nobody's"); });
    story_.note("all is queued");
  }
  std::vector<std::string> events = story_.events();
  ASSERT_EQ(events.size(), 5U);
  EXPECT_THAT(std::vector(events.begin() + 1, events.begin() + 3),
              testing::UnorderedElementsAre("other", "nobody's"));
  EXPECT_THAT(std::vector(events.begin() + 3, events.end()), testing::ElementsAre("greedy 1", "greedy 2"));
}

TEST_F(WorkerTest, MoreLongWorkThanThreadsEndsAllTheSame) {
  std::atomic<int> ended = 0;
  {
    Worker worker(loop_, 4);
    for (uid_t user = 0; user < 100; ++user) {
      worker.submit(user, [&] {
        for (int i = 0; i < 20; ++i) {
          time_.pass(20us);
          Worker::pause();
        }
        ++ended;
      });
    }
  }
  EXPECT_EQ(ended, 100);
}

TEST_F(WorkerTest, WorkIsForWhomTheLoopWorksWhenItIsSubmitted) {
  test::StillLoop harness;
  Worker worker(harness.loop, 1);
  harness.loop.post([&] {
    worker.submit([&] { EXPECT_TRUE(story_.await("all is queued")); });
    {
      const Meter::Scope scope(harness.loop.meter(), kGreedy);
      worker.submit([&] {
        harness.time.pass(1ms);
        story_.note("greedy 1");
      });
      worker.submit([&] { story_.note("greedy 2"); });
    }
    const Meter::Scope scope(harness.loop.meter(), kOther);
    worker.submit([&] {
      story_.note("other");
      harness.loop.post([&] { harness.loop.stop(); });
    });
    story_.note("all is queued");
  });
  harness.loop.run();
  EXPECT_TRUE(story_.await("greedy 2"));
  EXPECT_THAT(story_.events(), testing::ElementsAre("all is queued", "greedy 1", "other", "greedy 2"));
}

TEST(WorkerPause, DoesNothingWhereNobodyWorks) {
  Worker::pause();
}

}  // namespace
}  // namespace mapcap::broker
